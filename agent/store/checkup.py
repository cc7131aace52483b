"""What a check of models came to, and the last one, kept in the state for health to see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.store.choices import ProviderChoice
from agent.store.disk import Disk
from agent.store.library import FoundModel
from agent.store.trial import TrialResult

CHECK_NAME = "check.json"
SLOWER = 2.0
"""A model that takes this many times as long as when it was installed is told as slow."""
_LEAST_S = 0.002
"""Differences below this say nothing: that is how long a process waits for its turn."""
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelCheckup:
    """One model looked at on all levels."""

    role: str
    ref: str
    serves: bool
    """Whether it passed."""
    level: str = ""
    """The level that it failed: integrity, compatibility, function; empty when it passed."""
    code: str = ""
    message: str = ""
    variant: str = ""
    provider: str = ""
    memory_mb: int = 0
    """What it needs: by its manifest, or on a GPU that shares the memory as it was measured."""
    gpu_mb: int = 0
    """Part of that which such a GPU holds."""
    pinned: bool = False
    real_time_factor: float = 0.0
    recorded: float = 0.0
    """The real-time factor when it was installed; 0 when that is not known."""
    slow: bool = False
    """Whether it has become much slower since."""

    @property
    def problem(self) -> str:
        """What to warn of; empty when all is well."""
        if not self.serves:
            return f"{self.ref}: {self.message}"
        if self.slow:
            return (
                f"{self.ref} takes {self.real_time_factor / self.recorded:.1f} times as long as "
                "when it was installed: look for throttling, another program, or a worn disk "
                "(`funasr-agent doctor`)"
            )
        return ""


def checkup(
    found: FoundModel, pinned: bool, result: TrialResult, choice: ProviderChoice | None
) -> ModelCheckup:
    """What a trial says of a model, beside what was recorded for it."""
    old = choice.chosen.result if choice is not None and choice.chosen is not None else None
    recorded = round(old.rtf, 5) if old is not None and result.passed else 0.0
    limit = max(SLOWER * old.golden_s, old.golden_s + _LEAST_S) if old is not None else 0.0
    stated_mb = found.manifest.requires.memory_mb
    return ModelCheckup(
        role=found.manifest.task,
        ref=str(found.ref),
        serves=result.passed,
        level=result.level,
        code=result.code,
        message=result.message,
        variant=choice.variant if choice else "",
        provider=choice.provider if choice else "",
        memory_mb=choice.need_mb(stated_mb) if choice else stated_mb,
        gpu_mb=round(old.gpu_mb) if old is not None else 0,
        pinned=pinned,
        real_time_factor=round(result.rtf, 5),
        recorded=recorded,
        slow=recorded > 0 and result.golden_s > limit,
    )


@dataclass(frozen=True)
class LastCheck:
    """The last `models verify`, over all models."""

    time: str
    """ISO 8601, UTC."""
    problems: tuple[str, ...]


class CheckFile:
    """check.json in the state folder."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def read(self) -> LastCheck | None:
        """The last check; None when there was none that can be read."""
        try:
            with open(self._path, "rb") as file:
                tree = json.loads(file.read(_MAX_BYTES))
            return LastCheck(str(tree["time"]), tuple(map(str, tree["problems"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, time: str, checkups: Sequence[ModelCheckup]) -> LastCheck:
        """Keep what a check found. Raises OSError."""
        last = LastCheck(time, tuple(c.problem for c in checkups if c.problem))
        self._disk.make_folder(self._path.parent)
        tree = {**asdict(last), "models": [asdict(c) for c in checkups]}
        self._disk.write(self._path, json.dumps(tree, indent=1, ensure_ascii=False).encode())
        return last
