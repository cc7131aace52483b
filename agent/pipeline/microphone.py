"""The box's own microphone: keeps it open, hands its audio on, says how it is.

Capture runs in a child process (`agent.audio.capture`), decisions are the supervisor's
(`agent.audio.supervisor`), sessions the feed's (`agent.pipeline.microphone_feed`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import config
from agent.audio.capture import Capture, can_open
from agent.audio.capture_protocol import Audio
from agent.audio.ring import Ring
from agent.audio.sound_cards import RootFiles, cards_signature
from agent.audio.source import SourceState
from agent.audio.supervisor import Supervisor, Timing
from agent.pipeline.hub import Hub
from agent.pipeline.microphone_controls import Controls, read_controls, write_controls
from agent.pipeline.microphone_feed import Feed
from agent.pipeline.microphone_intake import Intake
from agent.pipeline.microphone_settings import still_fits, stream_options, timing, wish
from agent.pipeline.recorder import Probe, Record, Recorder
from agent.pipeline.service import TranscriptionService
from agent.said import by_code, say
from agent.types import SAMPLES_PER_MS

_log = logging.getLogger(__name__)

HANG_S = 15.0
"""A supervisor that has not looked for so long hangs."""
SESSION_GAP_S = 30.0
"""A device that stays away longer ends its session."""
TOLD_S = 60.0
"""How long lost audio is a reason to be degraded."""
TICK_S = Timing.tick_ms / 1000
LEVEL_TICKS = 2
CARDS_TICKS = 10
OFF = "off"
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
        """`memory`: the file that keeps what page and REST set."""
        self.settings = settings
        self._hub = hub
        self._memory = memory
        self._cards, self._clock = cards, clock
        self._supervisor = Supervisor(timing(settings))
        self._ring = Ring(settings.ring_ms * SAMPLES_PER_MS)
        self._intake = Intake(self._ring, clock)
        options = stream_options(settings)
        self._feed = Feed(service, options, self._ring, settings.session_s, clock)
        self._controls = read_controls(memory, settings)
        self._recorder = Recorder(self._supervisor, wish(settings), self._take, record, probe)
        self._changed, self._keeping = asyncio.Event(), asyncio.Lock()
        self._beat = clock()
        self._told: object = None
        self._overflowed_at = -TOLD_S
        self._stopping = False

    @property
    def enabled(self) -> bool:
        """Whether the box is to listen: as set on the page or by REST, else as configured."""
        chosen = self._controls.enabled if self.settings.switch else None
        return self.settings.enabled if chosen is None else chosen

    @property
    def muted(self) -> bool:
        """Whether its audio is thrown away."""
        return self._controls.muted

    @property
    def gain_db(self) -> float:
        """As set on the page or by REST, else as configured."""
        chosen = self._controls.gain_db
        return self.settings.gain_db if chosen is None else chosen

    def alive(self) -> bool:
        """For the watchdog: it delivers, or is known to be reopening, or is off."""
        if not self.enabled or self._stopping:
            return True
        return self._clock() - self._beat < HANG_S

    @property
    def state(self) -> str:
        """`off`, `muted`, or that of the device (`SourceState`)."""
        if not self.enabled:
            return OFF
        if self.muted and self._supervisor.is_running:
            return MUTED
        return self._supervisor.state.value

    def trouble(self) -> str:
        """Why it does not deliver as configured, in words; empty when it does, or is muted."""
        if not self.enabled:
            return ""
        if not self._supervisor.is_running or self._supervisor.on_fallback:
            return self._supervisor.reason
        if not self.muted and self._clock() - self._overflowed_at < TOLD_S:
            lost = "audio of the microphone was lost: the box is too slow for what it has to do"
            return say("microphone_lost_audio", lost)
        return ""

    @property
    def reason(self) -> str:
        """Its state in words."""
        if not self.enabled:
            return say("microphone_off", "the box does not listen by itself")
        if self.state == MUTED:
            return say("microphone_muted", "the microphone is muted")
        if self._supervisor.is_running and self._feed.waits_for:
            reason, waits_for = self._supervisor.reason, self._feed.waits_for
            return say("microphone_waits", "{reason}, but {why}", reason=reason, why=waits_for)
        return self._supervisor.reason

    def status(self) -> dict[str, Any]:
        """For people and programs; also the fields of its events."""
        source = self._supervisor.source if self._supervisor.is_running else None
        level = self._intake.level
        return {
            "enabled": self.enabled,
            "can_switch": self.settings.switch,
            "state": self.state,
            "reason": self.reason,
            "said": by_code(self.reason),
            "wanted": self.settings.device or None,
            "device": source.device.name if source else None,
            "device_id": source.device.id if source else None,
            "rate": source.format.rate if source else None,
            "channels": source.format.channels if source else None,
            "fallback": self._supervisor.on_fallback,
            "muted": self.muted,
            "gain_db": self.gain_db,
            "level_dbfs": level.rms_dbfs,
            "peak_dbfs": level.peak_dbfs,
            "clipping": level.clipped > 0,
            "clipped": self.clipped,
            "gaps": self._feed.gaps,
            "dropped_ms": self.dropped_samples // SAMPLES_PER_MS,
            "overflows": self.overflows,
            "reopened": self.reopened,
            "session_id": self._feed.session_id,
        }

    @property
    def samples(self) -> int:
        """Samples that came from the device, at 16 kHz."""
        return self._intake.samples

    @property
    def clipped(self) -> int:
        """Samples at full scale."""
        return self._intake.clipped

    @property
    def dropped_samples(self) -> int:
        """Samples lost since the start, at 16 kHz."""
        return self._feed.dropped

    @property
    def overflows(self) -> int:
        """How often audio came faster than it was taken: here, or in the device."""
        return self._ring.overflows + self._intake.overflows

    @property
    def reopened(self) -> int:
        """How often audio came back after it had stopped."""
        return self._supervisor.reopened

    @property
    def level_dbfs(self) -> float:
        """RMS of the last moment."""
        return self._intake.level.rms_dbfs

    async def control(
        self,
        muted: bool | None = None,
        gain_db: float | None = None,
        enabled: bool | None = None,
    ) -> None:
        """Set what is given; kept over restarts."""
        before = self._controls
        controls = Controls(
            before.muted if muted is None else muted,
            before.gain_db if gain_db is None else gain_db,
            before.enabled if enabled is None else enabled,
        )
        await self._change(self.settings, controls)

    async def use(self, settings: config.Microphone) -> None:
        """Other settings. What page and REST set holds unless the key itself has changed; the
        session goes on where the device stays."""
        before = self.settings
        if settings == before:
            return
        controls = self._controls
        if settings.enabled != before.enabled:
            controls = replace(controls, enabled=None)
        if settings.gain_db != before.gain_db:
            controls = replace(controls, gain_db=None)
        self._supervisor.use(timing(settings))
        self._ring.resize(settings.ring_ms * SAMPLES_PER_MS)
        self._feed.use(stream_options(settings), settings.session_s)
        was, self._recorder.wish = wish(before), wish(settings)
        if was != wish(settings) and not still_fits(self._supervisor.source, was, wish(settings)):
            anew = "the microphone is opened with its new settings"
            self._supervisor.reopen(say("microphone_anew", anew))
            if settings.device != before.device:
                self._feed.end_session()
        await self._change(settings, controls)

    async def run(self) -> None:
        """Keep it open, while it is on, until cancelled."""
        feeding = asyncio.create_task(self._feed.run(), name="microphone-feed")
        feeding.add_done_callback(lambda _: self._changed.set())
        try:
            if await asyncio.to_thread(self._memory.exists):
                await self._keep()  # what a changed key has overruled is forgotten
            while not feeding.done():
                if self.enabled:
                    await self._listen(feeding)
                else:
                    await self._rest()
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

    async def _listen(self, feeding: asyncio.Task[None]) -> None:
        """Until it is switched off."""
        ticks, cards = 0, self._cards()
        while self.enabled and not feeding.done():
            self._beat, ticks = self._clock(), ticks + 1
            if ticks % CARDS_TICKS == 0 and (now := self._cards()) != cards:
                cards = now
                self._supervisor.hurry()
            self._recorder.check()
            order = self._supervisor.tick()
            self._note_outage()
            await self._recorder.obey(order)
            if ticks % LEVEL_TICKS == 0:
                self._measure()
            self._tell()
            await asyncio.sleep(TICK_S)

    async def _rest(self) -> None:
        """Nothing is open until it is switched on."""
        await self._recorder.close()
        self._supervisor.rest()
        self._intake.forget()
        self._tell()
        self._changed.clear()
        if not self.enabled:
            await self._changed.wait()

    async def _change(self, settings: config.Microphone, controls: Controls) -> None:
        heard, known = self.enabled and not self.muted, self._controls
        self.settings, self._controls = settings, controls
        hears = self.enabled and not self.muted
        if heard and not hears:
            self._intake.close()
            self._feed.end_session()
        elif hears and not heard:
            self._intake.open()
        self._beat = self._clock()
        self._changed.set()
        self._tell()
        if controls != known:
            await self._keep()

    async def _keep(self) -> None:
        async with self._keeping:
            kept = self._controls, self.settings
            try:
                await asyncio.to_thread(write_controls, self._memory, *kept)
            except OSError as error:
                _log.warning("what was set of the microphone is lost at the next start: %s", error)

    def _take(self, message: Audio) -> None:
        if not self.enabled:
            return
        lost = self._intake.accept(message, self.gain_db, muted=self.muted)
        if lost and (message.dropped or not self._feed.waits_for):
            self._overflowed_at = self._clock()
        if not self.muted:
            self._feed.wake()

    def _note_outage(self) -> None:
        if self._supervisor.is_running or self.muted:
            return
        if self._intake.missing():
            self._feed.wake()
        if self._intake.away_s > SESSION_GAP_S and self._feed.session_id is not None:
            self._feed.end_session()

    def _measure(self) -> None:
        if not self._supervisor.is_running or self.muted:
            return
        self._intake.measure()
        if self._hub.subscriptions:
            self._hub.publish("microphone", self.status(), passing=True)

    def _tell(self) -> None:
        """Publish and log what has changed, levels and counters apart."""
        now = (self.state, self.reason, self.muted, self.gain_db, self._feed.session_id)
        if now == self._told:
            return
        before, self._told = self._told, now
        if before is None and self.state == OFF:
            return  # the usual case in a checkout: nothing to tell of
        self._hub.publish("microphone", self.status())
        if not isinstance(before, tuple) or before[:2] != now[:2]:
            quiet = self.state in (SourceState.RUNNING.value, SourceState.OPENING.value, MUTED, OFF)
            _log.log(logging.INFO if quiet else logging.WARNING, "microphone: %s", self.reason)
