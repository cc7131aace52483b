"""Which variant of a model runs on which provider here, why, and how fast: kept in the state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.store.disk import Disk
from agent.store.refs import ModelRef
from agent.store.trial import TrialResult

SCHEMA = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Attempt:
    """One candidate and what became of it."""

    variant: str
    provider: str
    derived: str
    """Derivation whose graphs were used; empty: the variant's own."""
    result: TrialResult

    @property
    def name(self) -> str:
        """As people are told of it."""
        return f"{self.derived or self.variant} on {self.provider}"


@dataclass(frozen=True)
class ProviderChoice:
    """The variant and provider that were chosen for a model on this box."""

    variant: str
    """Empty: every candidate was refused."""
    provider: str
    derived: str
    reasons: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    fingerprint: Mapping[str, str]
    """Of the box that the proof was made on."""
    decided: str
    """ISO 8601, UTC."""

    @property
    def chosen(self) -> Attempt | None:
        """The attempt that was chosen."""
        wanted = (self.variant, self.provider, self.derived)
        found = (a for a in self.attempts if (a.variant, a.provider, a.derived) == wanted)
        return next(found, None)

    def need_mb(self, stated_mb: int) -> int:
        """Memory for the chosen form; `stated_mb` is what the manifest says, for the CPU.

        Where the GPU shares the memory, what was measured counts, resident and held by the GPU:
        the two are apart. The weights are in one of them only, so nothing is added to the stated.
        """
        result = self.chosen.result if self.chosen else None
        if result is None or not result.gpu_mb:
            return stated_mb
        return max(stated_mb, round(result.memory_mb + result.gpu_mb))

    def to_json(self) -> dict[str, Any]:
        """As status shows it."""
        return {
            "variant": self.variant,
            "provider": self.provider,
            "derived": self.derived or None,
            "decided": self.decided,
            "reasons": list(self.reasons),
            "candidates": [_shown(attempt) for attempt in self.attempts],
        }


class ChoiceBook:
    """Choices by model, one file each. A file that can't be read counts as none."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk

    def load(self, ref: ModelRef) -> ProviderChoice | None:
        """The choice for exactly this model, whatever box it was made on."""
        try:
            with open(self._path(ref), "rb") as file:
                tree = json.loads(file.read(_MAX_BYTES))
            return _from_json(tree) if tree.get("schema") == SCHEMA else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def save(self, ref: ModelRef, choice: ProviderChoice) -> None:
        """Raises OSError."""
        self._disk.make_folder(self._folder)
        data = json.dumps({"schema": SCHEMA, **asdict(choice)}, indent=1, ensure_ascii=False)
        self._disk.write(self._path(ref), data.encode())

    def forget(self, ref: ModelRef) -> None:
        """The model is gone."""
        self._disk.remove(self._path(ref))

    def _path(self, ref: ModelRef) -> Path:
        return self._folder / f"{ref}.json"


def _from_json(tree: Mapping[str, Any]) -> ProviderChoice:
    """Raises ValueError, KeyError, TypeError, AttributeError."""
    attempts = tuple(
        Attempt(
            str(entry["variant"]),
            str(entry["provider"]),
            str(entry["derived"]),
            TrialResult.from_json(entry["result"]),
        )
        for entry in tree["attempts"]
    )
    choice = ProviderChoice(
        variant=str(tree["variant"]),
        provider=str(tree["provider"]),
        derived=str(tree["derived"]),
        reasons=tuple(map(str, tree["reasons"])),
        attempts=attempts,
        fingerprint={str(k): str(v) for k, v in tree["fingerprint"].items()},
        decided=str(tree["decided"]),
    )
    proven = choice.chosen is not None and choice.chosen.result.passed
    if not (proven if choice.variant else attempts):
        raise ValueError("is not the choice of one of its attempts")
    return choice


def _shown(attempt: Attempt) -> dict[str, Any]:
    result = attempt.result
    row: dict[str, Any] = {
        "variant": attempt.variant,
        "provider": attempt.provider,
        "derived": attempt.derived or None,
        "passed": result.passed,
    }
    if not result.passed:
        return {**row, "code": result.code, "reason": result.message}
    return {
        **row,
        "load_s": result.load_s,
        "real_time_factor": round(result.rtf, 5),
        "memory_mb": result.memory_mb,
        "gpu_mb": result.gpu_mb,
        "nodes": dict(result.nodes),
    }
