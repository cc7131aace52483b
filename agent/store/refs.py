"""How a model is named: `id`, or `id@sha8` for exactly one manifest of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import UnknownModel
from agent.store.manifest import is_model_id

_SHA8 = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class ModelRef:
    """Names a model; without `sha8` whichever manifest of it is the newest here."""

    id: str
    sha8: str = ""
    """First eight hex digits of the SHA-256 of manifest.yaml."""

    def __str__(self) -> str:
        return f"{self.id}@{self.sha8}" if self.sha8 else self.id

    def matches(self, other: ModelRef) -> bool:
        """Whether `other`, which is exact, is what this one names."""
        return self.id == other.id and self.sha8 in ("", other.sha8)


def parse_ref(text: str) -> ModelRef:
    """`id` or `id@sha8`. Raises UnknownModel for anything else."""
    model_id, at, sha8 = text.partition("@")
    if not is_model_id(model_id) or (at and not _SHA8.fullmatch(sha8)):
        raise UnknownModel(
            f"{text!r} is not a model id (lower-case letters, digits, '.', '_' and '-', and "
            "perhaps @ with eight hex digits); `funasr-agent models list` shows those that are here"
        )
    return ModelRef(model_id, sha8)
