"""From the device to the ring: gain, level, counters, and a gap for what was not heard."""

from __future__ import annotations

from collections.abc import Callable

from agent.audio.capture_protocol import Audio
from agent.audio.level import Level, LevelMeter, amplify
from agent.audio.ring import Ring
from agent.types import SAMPLE_RATE


class Intake:
    """Fills the ring of one microphone. Counters are since the start of the agent."""

    def __init__(self, ring: Ring, clock: Callable[[], float]) -> None:
        self._ring = ring
        self._clock = clock
        self._meter = LevelMeter()
        self._heard_at: float | None = None
        """None: nothing is missed."""
        self._lost_since: float | None = None
        self.level = Level()
        self.samples = self.clipped = self.overflows = 0

    def accept(self, message: Audio, gain_db: float, *, muted: bool) -> bool:
        """Take audio of the device, into the ring unless it is muted; whether some was lost, here
        or in the device."""
        self._heard_at = self._clock()
        samples, over = amplify(message.samples, gain_db)
        self.samples += len(samples)
        self.clipped += message.clipped + over
        self.overflows += message.overflows
        if muted:
            return False
        self._meter.accept(samples, message.clipped + over)
        if self._lost_since is not None:
            away = round((self._heard_at - self._lost_since) * SAMPLE_RATE)
            self._ring.skip(away - len(samples))
            self._lost_since = None
        before = self._ring.overflows
        if message.dropped:
            self._ring.skip(message.dropped)
        self._ring.push(samples)
        return self._ring.overflows > before or message.dropped > 0

    def missing(self) -> bool:
        """No device is open: time without one is a gap, and what was open in it ends at once, not
        at its return. Whether the gap begins now."""
        if self._lost_since is not None or self._heard_at is None:
            return False
        now = self._clock()
        self._ring.skip(round((now - self._heard_at) * SAMPLE_RATE))
        self._lost_since = now
        self.level = Level()
        return True

    @property
    def away_s(self) -> float:
        """How long the device has been missing, seconds."""
        return 0.0 if self._lost_since is None else self._clock() - self._lost_since

    def measure(self) -> None:
        """The level of what came since the last call."""
        self.level = self._meter.read()

    def close(self) -> None:
        """Nobody is to hear it now: forget what waits."""
        self._ring.clear()
        self.level = Level()

    def open(self) -> None:
        """It is to be heard again; what was not to be heard is no gap."""
        self._lost_since = None
        if self._heard_at is not None:
            self._heard_at = self._clock()

    def forget(self) -> None:
        """The device was closed on purpose: nothing is missed until it has been heard again."""
        self.close()
        self._heard_at = self._lost_since = None
