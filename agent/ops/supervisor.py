"""Keeps the service manager informed: start, status, and a watchdog that is fed only while the
agent works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from agent.ops.systemd import Notifier

_log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often the vital signs are looked at, at least."""
LOADING_LIMIT_S = 1800.0
"""Loading models is given no more time after this."""
EXTEND_EVERY_S = 10.0
EXTEND_BY_S = 60.0
"""Each time; a start that hangs ends that long after its last sign of life."""


class VitalSigns(Protocol):
    """What the supervisor looks at, on the event loop."""

    def loaded(self) -> bool:
        """Whether the models were loaded, or found to be unusable."""

    def stuck(self) -> str | None:
        """Which lane does not answer, in words; None when both do."""

    def hears(self) -> bool:
        """Whether the microphone delivers, is known to be reopening, or is not used."""

    def says(self) -> str:
        """The state of the agent, in words."""


class Supervisor:
    """Speaks to the service manager in the agent's name until it is cancelled."""

    def __init__(
        self,
        notifier: Notifier,
        watchdog_s: float | None,
        signs: VitalSigns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watchdog_s`: the watchdog's period; None: there is none."""
        self._notifier = notifier
        self._watchdog_s = watchdog_s
        self._signs = signs
        self._clock = clock
        self._began = clock()
        self._ready = False
        self._said = ""
        self._extended: float | None = None
        self._fed: float | None = None
        self._complaint = ""

    @property
    def is_ready(self) -> bool:
        """Whether READY=1 was said."""
        return self._ready

    async def run(self) -> None:
        """Look, and tell, until cancelled."""
        tick_s = TICK_S if self._watchdog_s is None else min(TICK_S, self._watchdog_s / 8)
        while True:
            self.look()
            await asyncio.sleep(tick_s)

    def look(self) -> None:
        """One look at the vital signs, and what follows from it."""
        stuck = self._signs.stuck()
        if not self._ready:
            self._start(stuck)
        if self._ready and self._watchdog_s is not None:
            self._feed(stuck, self._watchdog_s)
        says = self._signs.says()
        if says != self._said and self._notifier.status(says):
            self._said = says

    def _start(self, stuck: str | None) -> None:
        now = self._clock()
        if self._signs.loaded():
            self._ready = self._notifier.ready() or not self._notifier.is_heard
            return
        due = self._extended is None or now - self._extended >= EXTEND_EVERY_S
        if stuck is None and due and now - self._began < LOADING_LIMIT_S:
            self._notifier.extend(EXTEND_BY_S)
            self._extended = now

    def _feed(self, stuck: str | None, period_s: float) -> None:
        """The lane's own limit has run out when it is called stuck, so nothing is waited for; a
        microphone has the watchdog's period to come to itself."""
        complaint = stuck or ""
        if not complaint and not self._signs.hears():
            complaint = "the microphone delivers nothing and is not being opened again"
        if complaint:
            if complaint != self._complaint and not self._complaint:
                _log.error("the watchdog is not fed: %s", complaint)
            self._complaint = complaint
            if stuck is not None:
                self._notifier.trigger_watchdog()
            return
        self._complaint = ""
        now = self._clock()
        due = self._fed is None or now - self._fed >= period_s / 2
        if due and self._notifier.watchdog():
            self._fed = now
