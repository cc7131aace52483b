"""Health: named checks with a reason each, and since when they say so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from agent.said import Said, by_code


class Status(str, Enum):
    """Of one check, and of the box as a whole: the worst of its checks."""

    OK = "ok"
    DEGRADED = "degraded"
    STARTING = "starting"
    FAILING = "failing"


_SEVERITY = {Status.OK: 0, Status.DEGRADED: 1, Status.STARTING: 2, Status.FAILING: 3}


@dataclass(frozen=True)
class Finding:
    """What a check sees at this moment."""

    status: Status
    reason: str


@dataclass(frozen=True)
class HealthCheck:
    """A finding with its name and the wall-clock time (UNIX seconds) since which it holds."""

    name: str
    status: Status
    reason: str
    since: float


@dataclass(frozen=True)
class HealthReport:
    """All checks and the worst of their states."""

    status: Status
    checks: tuple[HealthCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """Body of /health."""
        return {"status": self.status.value, "checks": [_fields(check) for check in self.checks]}


Check = Callable[[], Sequence[tuple[str, Finding]]]
"""Named findings; a check may have several names, and other ones each time."""


class HealthMonitor:
    """Runs the checks and remembers since when each finding holds."""

    def __init__(self, checks: Sequence[Check], clock: Callable[[], float] = time.time) -> None:
        self._checks = checks
        self._clock = clock
        self._held: dict[str, HealthCheck] = {}

    def report(self) -> HealthReport:
        """All findings now."""
        found = [item for check in self._checks for item in check()]
        self._held = {name: self._dated(name, finding) for name, finding in found}
        checks = tuple(self._held.values())
        worst = max((check.status for check in checks), key=_SEVERITY.__getitem__)
        return HealthReport(worst, checks)

    def _dated(self, name: str, finding: Finding) -> HealthCheck:
        held = self._held.get(name)
        if held is not None and (held.status, held.reason) == (finding.status, finding.reason):
            return held
        return HealthCheck(name, finding.status, finding.reason, round(self._clock(), 3))


def _fields(check: HealthCheck) -> dict[str, Any]:
    """Its JSON; `said` is the reason by code and values, where it has one."""
    fields: dict[str, Any] = {
        "name": check.name,
        "status": check.status.value,
        "reason": str(check.reason),
        "since": check.since,
    }
    if isinstance(check.reason, Said):
        fields["said"] = by_code(check.reason)
    return fields
