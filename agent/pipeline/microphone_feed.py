"""From the microphone's ring to sessions of the service, one after the other, for days."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from agent.audio.ring import Ring
from agent.errors import NotReady, Overloaded, StreamFailed
from agent.pipeline.service import TranscriptionService
from agent.pipeline.streams import MICROPHONE_SOURCE, LiveStream
from agent.types import (
    SAMPLE_RATE,
    ModelSet,
    StreamOptions,
    VoiceStarted,
    VoiceStopped,
)

_log = logging.getLogger(__name__)

BLOCK = SAMPLE_RATE // 2
"""Samples taken from the ring at a time."""
RETRY_S = 1.0
"""Between tries to open a session."""
QUIET_S = 1.0
"""A session is followed by the next in a pause of so long."""
OVERDUE_S = 60.0
"""Where no pause comes for so long, it is followed all the same."""


class Feed:
    """Pushes audio and gaps into a session; opens the next one when it is due."""

    def __init__(
        self,
        service: TranscriptionService,
        options: StreamOptions,
        ring: Ring,
        session_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._options = options
        self._ring = ring
        self._session_s = session_s
        self._clock = clock
        self.waits_for = ""
        """Why there is no session although there is audio; empty when there is one."""
        self.gaps = 0
        self.dropped = 0
        """Samples lost, at 16 kHz."""
        self._stream: LiveStream | None = None
        self._stream_options = options
        self._models: ModelSet | None = None
        self._opened = self._voice_at = 0.0
        self._due_since: float | None = None
        self._speaking = False
        self._ending = self._stopping = False
        self._wake = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()

    @property
    def session_id(self) -> str | None:
        """Of the session that is open."""
        return self._stream.session_id if self._stream else None

    def use(self, options: StreamOptions, session_s: float) -> None:
        """Other settings; where options differ, the next session begins in the next pause."""
        self._options, self._session_s = options, session_s

    def wake(self) -> None:
        """There is something in the ring."""
        self._wake.set()

    def end_session(self) -> None:
        """Finish the session behind what is in the ring; audio that follows opens another."""
        self._ending = True
        self._wake.set()

    async def run(self) -> None:
        """Feed until `stop`."""
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            while self._has_work():
                if not await self._step():
                    await asyncio.sleep(RETRY_S)
        await self._finish()

    async def stop(self, timeout_s: float) -> None:
        """Let the open sessions finish; call it when `run` has ended."""
        await self._finish()
        if self._readers:
            await asyncio.wait(self._readers, timeout=timeout_s)
        for reader in tuple(self._readers):
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def end(self) -> None:
        """No more audio: `run` returns when the ring is empty."""
        self._stopping = True
        self.end_session()

    async def _step(self) -> bool:
        """Hand over one block; False when there is no session to be had now."""
        if not len(self._ring):
            return await self._step_without_audio()
        stream = self._stream or await self._open()
        if stream is None:
            if self._stopping:
                self._ring.clear()
            return self._stopping
        try:
            for item in self._ring.take(BLOCK):
                if isinstance(item, int):
                    await self._skip(stream, item)
                else:
                    await stream.push(item)
        except StreamFailed:
            self._stream = None  # told by the stream itself; the next one starts afresh
            return False
        if self._is_due():
            await self._finish()
        return True

    def _has_work(self) -> bool:
        gap = self._stream is not None and not self._ring.is_empty
        return len(self._ring) > 0 or gap or self._ending

    async def _step_without_audio(self) -> bool:
        """A gap ends the speech that is open; the session ends where it was told to."""
        ending, self._ending = self._ending, False
        if self._stream is not None:
            for item in self._ring.take(1):
                if isinstance(item, int):
                    await self._skip(self._stream, item)
        if ending:
            await self._finish()
        return True

    async def _skip(self, stream: LiveStream, samples: int) -> None:
        self.gaps += 1
        self.dropped += samples
        await stream.skip(samples)

    async def _open(self) -> LiveStream | None:
        options = self._options
        try:
            stream = await self._service.open(options, source=MICROPHONE_SOURCE)
        except (NotReady, Overloaded) as error:
            self.waits_for = error.message
            return None
        self.waits_for = ""
        self._stream, self._models = stream, self._service.models
        self._stream_options = options
        self._opened = self._voice_at = self._clock()
        self._due_since, self._speaking = None, False
        reader = asyncio.create_task(self._follow(stream), name=f"microphone-{stream.session_id}")
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return stream

    async def _follow(self, stream: LiveStream) -> None:
        """Know whether somebody speaks; the service itself tells everyone what was said."""
        async for event in stream:
            if stream is self._stream and isinstance(event, VoiceStarted | VoiceStopped):
                self._speaking = isinstance(event, VoiceStarted)
                self._voice_at = self._clock()

    async def _finish(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.finish()

    def _is_due(self) -> bool:
        """Whether other models serve, other options are wanted, or the session is long enough,
        and nobody speaks."""
        now, models = self._clock(), self._service.models
        switched = models is not None and models is not self._models
        switched = switched or self._options != self._stream_options
        if not switched and now - self._opened < self._session_s:
            self._due_since = None
            return False
        if self._due_since is None:
            self._due_since = now
        pause = not self._speaking and now - self._voice_at >= QUIET_S
        return pause or now - self._due_since >= OVERDUE_S
