"""Runs the checks: none may raise, none may hang, what is found out once serves several."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.doctor.report import Check, failure

_T = TypeVar("_T")

REPORT_IT = "look at the message; if it says nothing about this box, report it as a bug"


@dataclass(frozen=True)
class Probe:
    """A group of lines that are found out together."""

    name: str
    run: Callable[[], Sequence[Check]]
    """The lines; none where the check does not apply to this box."""
    limit_s: float = 20.0
    """Time after which the check is given up."""


def run_probe(probe: Probe) -> list[Check]:
    """The lines of a probe; one failure in their place when it raises or takes too long.

    A check that hangs (a dead network disk, a dead driver) stays behind in its own thread.
    """
    answer: queue.SimpleQueue[list[Check]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(list(probe.run()))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is a line, not the end
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            answer.put([failed(probe.name, reason)])

    threading.Thread(target=work, name=f"check-{probe.name}", daemon=True).start()
    try:
        return answer.get(timeout=probe.limit_s)
    except queue.Empty:
        return [failed(probe.name, f"it did not end within {probe.limit_s:g} s")]


def failed(name: str, reason: str) -> Check:
    """The line of a check that could not be made."""
    return failure(name, f"the check itself failed: {reason}", REPORT_IT)


class Once(Generic[_T]):
    """Something that costs time to find out: done by the first who asks, kept for the others."""

    def __init__(self, find: Callable[[], _T]) -> None:
        self._find = find
        self._started = False
        self._found: list[_T] = []
        self._error: Exception | None = None

    def get(self) -> _T:
        """What was found. Raises what finding it raised, or RuntimeError while it hangs."""
        if not self._started:
            self._started = True
            try:
                self._found.append(self._find())
            except Exception as error:
                self._error = error
                raise
        if self._error is not None:
            raise self._error
        if not self._found:
            raise RuntimeError("not known: an earlier check that looks for it did not end")
        return self._found[0]

    def known(self) -> _T | None:
        """What was found so far; None when nobody asked or it failed."""
        return self._found[0] if self._found else None
