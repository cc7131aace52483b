"""The models that come with the agent: the last of every list, and known by their hash."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.store.roles import Role

EMBEDDED_PREFIX = "builtin-"
"""No other model's id begins so."""
EMBEDDED: Mapping[str, str] = MappingProxyType(
    {
        "builtin-vad": "2679ea368e760f8dbe81bbd5ebf1e2d607e83801abf6e01a87d16116a3679ea7",
        "builtin-online": "3a0ddfcaef2ddeeed10c0a2f2a75e65a07651c310d9e37d7b3ec092d640ed0f4",
        "builtin-offline": "2020f821bfcbdb837a88aecff01de9de222ffcfaeae17850bb44f2975d119fee",
    }
)
"""Id -> SHA-256 of its manifest.yaml, and through it of every file of the model."""

EMBEDDED_OF_ROLE: Mapping[Role, str] = MappingProxyType(
    {"vad": "builtin-vad", "asr_online": "builtin-online", "asr_offline": "builtin-offline"}
)
