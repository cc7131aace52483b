"""What the pre-flight check says: lines with a status each, and the whole report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Status(str, Enum):
    """Of one line, and of the report: the worst of its lines."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


_SEVERITY = {Status.OK: 0, Status.WARNING: 1, Status.FAILURE: 2}


@dataclass(frozen=True)
class Check:
    """One line. `seen` and `advice` may hold several lines of text."""

    name: str
    status: Status
    seen: str
    advice: str = ""
    """What to do; empty only where the status is ok."""


@dataclass(frozen=True)
class Report:
    """Every line, in the order of the checks."""

    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """The worst status; ok without any line."""
        return worst([check.status for check in self.checks])

    def to_json(self) -> dict[str, Any]:
        """`{"status", "checks": [{"name", "status", "seen", "advice"}]}`."""
        rows = [{**asdict(check), "status": check.status.value} for check in self.checks]
        return {"status": self.status.value, "checks": rows}


def ok(name: str, seen: str) -> Check:
    """A line that asks nothing of anyone."""
    return Check(name, Status.OK, seen)


def warning(name: str, seen: str, advice: str) -> Check:
    """Works, but worse than it could, or not for long."""
    return Check(name, Status.WARNING, seen, advice)


def failure(name: str, seen: str, advice: str) -> Check:
    """The box can't do its work until this is mended."""
    return Check(name, Status.FAILURE, seen, advice)


def worst(statuses: Sequence[Status]) -> Status:
    """The most severe of `statuses`; ok of none."""
    return max(statuses, key=_SEVERITY.__getitem__, default=Status.OK)


def gathered(name: str, seen: Sequence[str], problems: Sequence[Check]) -> Check:
    """One line out of several findings: what was seen at all, then every problem and its advice."""
    if not problems:
        return ok(name, "; ".join(seen))
    texts = [*seen, *(problem.seen for problem in problems)]
    advice = dict.fromkeys(problem.advice for problem in problems if problem.advice)
    status = worst([problem.status for problem in problems])
    return Check(name, status, "; ".join(texts), "; ".join(advice))
