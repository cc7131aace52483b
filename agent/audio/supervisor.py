"""Keeps a microphone open: the decisions, without I/O, without a clock of its own.

`tick` is called once each `Timing.tick_ms` and says what to do. Time is counted in ticks and not
read from a clock: a loop that was held up for seconds has not seen seconds of silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.audio.capture_protocol import Opened
from agent.audio.source import SourceState
from agent.said import say

_OPENING = "the microphone is being opened"


class Order(Enum):
    """What the caller is to do now."""

    NOTHING = "nothing"
    OPEN = "open"
    """Start the capture process; tell `opened`, `audio`, `lost`."""
    CLOSE = "close"
    """End it."""
    PROBE = "probe"
    """Find out whether the wanted device can be opened again; tell `preferred_is_back` if so."""


class _Phase(Enum):
    WAITING = "waiting"
    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"


@dataclass(frozen=True)
class Timing:
    """Milliseconds."""

    tick_ms: int = 100
    stall_ms: int = 2000
    """No audio for so long: the device is gone."""
    open_ms: int = 10_000
    """From the start of the process to the first audio."""
    retry_min_ms: int = 500
    retry_max_ms: int = 5000
    probe_ms: int = 15_000
    """How often the wanted device is looked for while another serves."""
    settle_ms: int = 2000
    """A device that delivered for so long is tried again at once when it fails."""


class Supervisor:
    """The state of one microphone and what follows from it."""

    def __init__(self, timing: Timing) -> None:
        self.state = SourceState.OPENING
        self.reason: str = say("microphone_opening", _OPENING)
        self.source: Opened | None = None
        """The device that is open."""
        self.reopened = 0
        """How often audio came back after it had stopped."""
        self._timing = timing
        self._phase = _Phase.WAITING
        self._wait_ms = 0
        self._backoff_ms = timing.retry_min_ms
        self._quiet_ms = 0
        self._running_ms = 0
        self._probe_wait_ms = 0
        self._has_run = False

    @property
    def is_running(self) -> bool:
        """Whether audio comes."""
        return self._phase is _Phase.RUNNING

    @property
    def on_fallback(self) -> bool:
        """Whether another device than the wanted one is open."""
        return self.is_running and self.source is not None and bool(self.source.instead)

    def tick(self) -> Order:
        """A tick has passed; what to do."""
        if self._phase is _Phase.CLOSING:
            self._phase = _Phase.WAITING
            return Order.CLOSE
        if self._phase is _Phase.WAITING:
            return self._tick_waiting()
        self._quiet_ms += self._timing.tick_ms
        if self._phase is _Phase.RUNNING:
            return self._tick_running()
        if self._quiet_ms < self._timing.open_ms:
            return Order.NOTHING
        seconds = self._timing.open_ms / 1000
        none = (
            "the microphone gave no audio within {s:g} s and is being opened again; look at its "
            "plug"
        )
        return self._stall(say("microphone_no_audio", none, s=seconds))

    def opened(self, source: Opened) -> None:
        """The device is open; audio is still to come."""
        self.source = source

    def audio(self) -> None:
        """Audio came."""
        self._quiet_ms = 0
        if self._phase is not _Phase.OPENING or self.source is None:
            return
        self._phase = _Phase.RUNNING
        self._running_ms = self._probe_wait_ms = 0
        self.reopened += self._has_run
        self._has_run = True
        self.state = SourceState.RUNNING
        name, instead = self.source.device.name, self.source.instead
        self.reason = say("microphone_delivers", "{name} delivers", name=name)
        if instead:
            in_place = "{name} serves in its place: {why}"
            self.reason = say("microphone_in_place", in_place, name=name, why=instead)

    def use(self, timing: Timing) -> None:
        """Other times, from the next tick on."""
        self._timing = timing
        self._backoff_ms = timing.retry_min_ms

    def reopen(self, reason: str) -> None:
        """Close what is open and open it again at once."""
        self._phase = _Phase.CLOSING
        self._wait_ms = 0
        self._backoff_ms = self._timing.retry_min_ms
        self.source = None
        self.state, self.reason = SourceState.OPENING, reason

    def rest(self) -> None:
        """It was closed on purpose: the next tick opens it for the first time again."""
        self.reopen(say("microphone_opening", _OPENING))
        self._phase = _Phase.WAITING
        self._has_run = False

    def lost(self, state: SourceState, reason: str) -> None:
        """The process told of a failure, or ended."""
        if self._phase in (_Phase.OPENING, _Phase.RUNNING):
            self._fail(state, reason)

    def hurry(self) -> None:
        """A sound card came or went: try now."""
        if self._phase is _Phase.WAITING:
            self._wait_ms = 0
        elif self.on_fallback:
            self._probe_wait_ms = self._timing.probe_ms

    def preferred_is_back(self) -> None:
        """The wanted device can be opened: take it again."""
        if self.on_fallback:
            self.reopen(say("microphone_back", "the wanted microphone is back"))

    def _tick_waiting(self) -> Order:
        self._wait_ms -= self._timing.tick_ms
        if self._wait_ms > 0:
            return Order.NOTHING
        self._phase = _Phase.OPENING
        self._quiet_ms = 0
        return Order.OPEN

    def _tick_running(self) -> Order:
        timing = self._timing
        self._running_ms += timing.tick_ms
        if self._running_ms >= timing.settle_ms:
            self._backoff_ms = timing.retry_min_ms
        if self._quiet_ms >= timing.stall_ms:
            name = self.source.device.name if self.source else "the microphone"
            silent = "{name} gave no audio for {ms} ms and is being opened again; look at its plug"
            return self._stall(say("microphone_stalled", silent, name=name, ms=timing.stall_ms))
        if self.on_fallback:
            self._probe_wait_ms += timing.tick_ms
            if self._probe_wait_ms >= timing.probe_ms:
                self._probe_wait_ms = 0
                return Order.PROBE
        return Order.NOTHING

    def _stall(self, reason: str) -> Order:
        self._fail(SourceState.STALLED, reason)
        self._phase = _Phase.WAITING
        return Order.CLOSE

    def _fail(self, state: SourceState, reason: str) -> None:
        self._phase = _Phase.CLOSING
        self.state, self.reason, self.source = state, reason, None
        self._wait_ms = self._backoff_ms
        self._backoff_ms = min(2 * self._backoff_ms, self._timing.retry_max_ms)
