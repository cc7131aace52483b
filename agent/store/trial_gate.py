"""Opens trials for the parts of the store, and ends them all when the agent stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.store.providers import OpenTrials, Trials


class TrialGate:
    """Every trial of a store is opened here. Thread-safe as far as `abort` goes."""

    def __init__(self, open_trials: OpenTrials) -> None:
        self._open_trials = open_trials
        self._running: set[Trials] = set()
        self._stopping = False

    @contextmanager
    def open(self) -> Iterator[Trials]:
        """Trials, to be used inside the block."""
        with self._open_trials() as trials:
            self._running.add(trials)
            if self._stopping:
                trials.abort()
            try:
                yield trials
            finally:
                self._running.discard(trials)

    def abort(self) -> None:
        """From another thread: end the trials at work and those that come."""
        self._stopping = True
        for trials in tuple(self._running):
            trials.abort()
