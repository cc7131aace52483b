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
        "builtin-online": "b0e6c6c33abd0acc304a4a2729f5b3e0e8a519329f974e869c21bdab6843f97f",
        "builtin-offline": "0eb492ac0342ebad8ade410f45ddd44194c4ea37507584bc265ecf8d6cce2ec3",
    }
)
"""Id -> SHA-256 of its manifest.yaml, and through it of every file of the model."""

EMBEDDED_OF_ROLE: Mapping[Role, str] = MappingProxyType(
    {"vad": "builtin-vad", "asr_online": "builtin-online", "asr_offline": "builtin-offline"}
)


def is_embedded(model_id: str, manifest_sha256: str) -> bool:
    """Whether this is exactly the model that this version of the agent came with."""
    return EMBEDDED.get(model_id) == manifest_sha256
