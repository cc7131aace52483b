"""The models that come with the agent: the last of every list, and known by their hash."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.store.roles import Role

EMBEDDED_PREFIX = "builtin-"
"""No other model's id begins so."""
EMBEDDED: Mapping[str, str] = MappingProxyType(
    {
        "builtin-vad": "dace84be230aa22c7a8ac8d93f882894cae239d700ae5e180d499710a2cb02b3",
        "builtin-online": "3fe949b8f7c81c022db367e659d192ba26ba9f512ce9e659f56a47b1f1b30141",
        "builtin-offline": "b4ec9f1517a14063c87845a82333055e587c92833fd048b2cfa3031df1f588a4",
    }
)
"""Id -> SHA-256 of its manifest.yaml, and through it of every file of the model."""

EMBEDDED_OF_ROLE: Mapping[Role, str] = MappingProxyType(
    {"vad": "builtin-vad", "asr_online": "builtin-online", "asr_offline": "builtin-offline"}
)
