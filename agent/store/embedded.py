"""The models that come with the agent: the last of every list, and known by their hash."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.store.roles import Role

EMBEDDED_PREFIX = "builtin-"
"""No other model's id begins so."""
EMBEDDED: Mapping[str, str] = MappingProxyType(
    {
        "builtin-vad": "0ce458cbb5c6702066280063f9c2704c02d06e27c37bbfc73a70c7e192dbffc3",
        "builtin-online": "baaa9c9ddcf7efe8c7fe46400890d5d4c53cef799d9232584b3708d45ea01c00",
        "builtin-offline": "e0ef97f6cf14a1d38eb89885cd1224ec45b0cb58239cec8b4cef7636b3dbc75e",
    }
)
"""Id -> SHA-256 of its manifest.yaml, and through it of every file of the model."""

EMBEDDED_OF_ROLE: Mapping[Role, str] = MappingProxyType(
    {"vad": "builtin-vad", "asr_online": "builtin-online", "asr_offline": "builtin-offline"}
)
