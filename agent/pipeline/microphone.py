"""The box's own microphone: keeps it open, hands its audio on, says how it is.

Capture runs in a child process (`agent.audio.capture`), decisions are the supervisor's
(`agent.audio.supervisor`), sessions the feed's (`agent.pipeline.microphone_feed`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent import config
from agent.audio.capture import Capture, can_open
from agent.audio.capture_protocol import Audio
from agent.audio.level import Level, LevelMeter, amplify
from agent.audio.ring import Ring
from agent.audio.sound_cards import RootFiles, cards_signature
from agent.audio.source import SourceState, Wish
from agent.audio.supervisor import Supervisor, Timing
from agent.pipeline.hub import Hub
from agent.pipeline.microphone_controls import Controls, read_controls, write_controls
from agent.pipeline.microphone_feed import Feed
from agent.pipeline.recorder import Probe, Record, Recorder
from agent.pipeline.service import TranscriptionService
from agent.said import by_code, say
from agent.types import SAMPLE_RATE, SAMPLES_PER_MS, RecognitionMode, StreamOptions

_log = logging.getLogger(__name__)

HANG_S = 15.0
"""A supervisor that has not looked for so long hangs."""
SESSION_GAP_S = 30.0
"""A device that stays away longer ends its session."""
TOLD_S = 60.0
"""How long lost audio is a reason to be degraded."""
LEVEL_TICKS = 2
CARDS_TICKS = 10
MUTED = "muted"


class Microphone:
    """One device, its state and its sessions. Used on the loop only."""

    def __init__(
        self,
        settings: config.Microphone,
        service: TranscriptionService,
        hub: Hub,
        memory: Path,
        *,
        record: Record = Capture.start,
        probe: Probe = can_open,
        cards: Callable[[], str] = lambda: cards_signature(RootFiles()),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`memory`: the file that keeps mute and gain."""
        self.settings = settings
        self._hub = hub
        self._memory = memory
        self._cards, self._clock = cards, clock
        self._timing = Timing(
            stall_ms=settings.stall_ms,
            retry_min_ms=settings.retry_min_ms,
            retry_max_ms=settings.retry_max_ms,
            probe_ms=round(settings.probe_s * 1000),
        )
        self._supervisor = Supervisor(self._timing)
        self._ring = Ring(settings.ring_ms * SAMPLES_PER_MS)
        self._feed = Feed(service, _options(settings), self._ring, settings.session_s, clock)
        self._controls = Controls(gain_db=settings.gain_db)
        if settings.enabled:
            self._controls = read_controls(memory, self._controls)
        self._meter, self._level = LevelMeter(), Level()
        self._recorder = Recorder(self._supervisor, _wish(settings), self._take, record, probe)
        self._beat = self._heard_at = clock()
        self._lost_since: float | None = None
        self._told: object = None
        self._overflowed_at = -TOLD_S
        self._stopping = False
        self.samples = self.clipped = self.device_overflows = 0

    def alive(self) -> bool:
        """For the watchdog: it delivers, or is known to be reopening, or is not configured."""
        if not self.settings.enabled or self._stopping:
            return True
        return self._clock() - self._beat < HANG_S

    @property
    def state(self) -> str:
        """`off`, `muted`, or that of the device (`SourceState`)."""
        if not self.settings.enabled:
            return "off"
        if self._controls.muted and self._supervisor.is_running:
            return MUTED
        return self._supervisor.state.value

    def trouble(self) -> str:
        """Why it does not deliver as configured, in words; empty when it does, or is muted."""
        if not self.settings.enabled:
            return ""
        if not self._supervisor.is_running or self._supervisor.on_fallback:
            return self._supervisor.reason
        if not self._controls.muted and self._clock() - self._overflowed_at < TOLD_S:
            lost = "audio of the microphone was lost: the box is too slow for what it has to do"
            return say("microphone_lost_audio", lost)
        return ""

    @property
    def reason(self) -> str:
        """Its state in words."""
        if not self.settings.enabled:
            return say("microphone_off", "the microphone is not in use (microphone.enabled)")
        if self.state == MUTED:
            return say("microphone_muted", "the microphone is muted")
        if self._supervisor.is_running and self._feed.waits_for:
            reason, waits_for = self._supervisor.reason, self._feed.waits_for
            return say("microphone_waits", "{reason}, but {why}", reason=reason, why=waits_for)
        return self._supervisor.reason

    def status(self) -> dict[str, Any]:
        """For people and programs; also the fields of its events."""
        source = self._supervisor.source if self._supervisor.is_running else None
        return {
            "enabled": self.settings.enabled,
            "state": self.state,
            "reason": self.reason,
            "said": by_code(self.reason),
            "wanted": self.settings.device or None,
            "device": source.device.name if source else None,
            "device_id": source.device.id if source else None,
            "rate": source.format.rate if source else None,
            "channels": source.format.channels if source else None,
            "fallback": self._supervisor.on_fallback,
            **asdict(self._controls),
            "level_dbfs": self._level.rms_dbfs,
            "peak_dbfs": self._level.peak_dbfs,
            "clipping": self._level.clipped > 0,
            "clipped": self.clipped,
            "gaps": self._feed.gaps,
            "dropped_ms": self.dropped_samples // SAMPLES_PER_MS,
            "overflows": self.overflows,
            "reopened": self.reopened,
            "session_id": self._feed.session_id,
        }

    @property
    def dropped_samples(self) -> int:
        """Samples lost since the start, at 16 kHz."""
        return self._feed.dropped

    @property
    def overflows(self) -> int:
        """How often audio came faster than it was taken: here, or in the device."""
        return self._ring.overflows + self.device_overflows

    @property
    def reopened(self) -> int:
        """How often audio came back after it had stopped."""
        return self._supervisor.reopened

    @property
    def level_dbfs(self) -> float:
        """RMS of the last moment."""
        return self._level.rms_dbfs

    async def control(self, muted: bool | None = None, gain_db: float | None = None) -> None:
        """Set what is given; kept over restarts."""
        fresh = self._controls
        fresh = fresh if muted is None else replace(fresh, muted=muted)
        fresh = fresh if gain_db is None else replace(fresh, gain_db=gain_db)
        if fresh.muted and not self._controls.muted:
            self._ring.clear()
            self._feed.end_session()
            self._level = Level()
        if self._controls.muted and not fresh.muted:
            # What was not to be heard is no gap.
            self._heard_at, self._lost_since = self._clock(), None
        self._controls = fresh
        self._tell()
        try:
            await asyncio.to_thread(write_controls, self._memory, fresh)
        except OSError as error:
            _log.warning("mute and gain are lost at the next start: %s", error)

    async def run(self) -> None:
        """Keep it open until cancelled; returns at once when it is not enabled."""
        if not self.settings.enabled:
            return
        feeding = asyncio.create_task(self._feed.run(), name="microphone-feed")
        ticks, cards = 0, self._cards()
        try:
            while not feeding.done():
                self._beat, ticks = self._clock(), ticks + 1
                if ticks % CARDS_TICKS == 0 and (now := self._cards()) != cards:
                    cards = now
                    self._supervisor.hurry()
                await self._tick()
                if ticks % LEVEL_TICKS == 0:
                    self._measure()
                self._tell()
                await asyncio.sleep(self._timing.tick_ms / 1000)
            feeding.result()
        finally:
            await self._recorder.stop()
            self._feed.end()
            await asyncio.wait({feeding}, timeout=1)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def stop(self, timeout_s: float) -> None:
        """After `run` has ended: let the last session finish."""
        self._stopping = True
        await self._feed.stop(timeout_s)

    async def _tick(self) -> None:
        self._recorder.check()
        order = self._supervisor.tick()
        self._note_outage()
        await self._recorder.obey(order)

    def _take(self, message: Audio) -> None:
        self._heard_at = self._clock()
        samples, over = amplify(message.samples, self._controls.gain_db)
        self.samples += len(samples)
        self.clipped += message.clipped + over
        self.device_overflows += message.overflows
        if self._controls.muted:
            return
        self._meter.accept(samples, message.clipped + over)
        if self._lost_since is not None:
            away = round((self._heard_at - self._lost_since) * SAMPLE_RATE)
            self._ring.skip(away - len(samples))
            self._lost_since = None
        before = self._ring.overflows
        if message.dropped:
            self._ring.skip(message.dropped)
        self._ring.push(samples)
        if (self._ring.overflows > before and not self._feed.waits_for) or message.dropped:
            self._overflowed_at = self._heard_at
        self._feed.wake()

    def _note_outage(self) -> None:
        """Time without a device is a gap: what was open in it ends at once, not at its return."""
        if self._supervisor.is_running or self._controls.muted:
            return
        now = self._clock()
        if self._lost_since is None and self.samples:
            self._ring.skip(round((now - self._heard_at) * SAMPLE_RATE))
            self._lost_since = now
            self._level = Level()
            self._feed.wake()
        long_away = self._lost_since is not None and now - self._lost_since > SESSION_GAP_S
        if long_away and self._feed.session_id is not None:
            self._feed.end_session()

    def _measure(self) -> None:
        if not self._supervisor.is_running or self._controls.muted:
            return
        self._level = self._meter.read()
        if self._hub.subscriptions:
            self._hub.publish("microphone", self.status(), passing=True)

    def _tell(self) -> None:
        """Publish and log what has changed, levels and counters apart."""
        now = (self.state, self.reason, self._controls, self._feed.session_id)
        if now == self._told:
            return
        before, self._told = self._told, now
        self._hub.publish("microphone", self.status())
        if not isinstance(before, tuple) or before[:2] != now[:2]:
            quiet = self.state in (SourceState.RUNNING.value, SourceState.OPENING.value, MUTED)
            _log.log(logging.INFO if quiet else logging.WARNING, "microphone: %s", self.reason)


def _options(settings: config.Microphone) -> StreamOptions:
    return StreamOptions(
        mode=RecognitionMode(settings.mode),
        hotwords=tuple(settings.hotwords.items()),
        itn=settings.itn,
        language=settings.language,
    )


def _wish(settings: config.Microphone) -> Wish:
    return Wish(
        device=settings.device,
        fallback=settings.fallback,
        channel=settings.channel,
        rate=settings.rate,
        ring_ms=settings.ring_ms,
    )
