"""One live stream: audio through the online lane, segments through the offline lane, events out."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

from agent.audio.convert import Resampler
from agent.engine.session import Session, SessionOutput, SessionSettings
from agent.errors import StreamFailed
from agent.log_context import SESSION
from agent.pipeline.admission import LoadMeter
from agent.pipeline.buffers import AudioBatch, AudioBuffer, EventBuffer, partial_key
from agent.pipeline.command_watch import CommandWatch
from agent.pipeline.history import FinalKeeper
from agent.pipeline.history_store import KeptSession
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.observer import PipelineObserver
from agent.types import (
    SAMPLE_RATE,
    CommandHeard,
    Int16,
    ModelSet,
    SpeechSegment,
    StreamError,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
)

_log = logging.getLogger(__name__)

EVENT_BOUND = 200
"""Events that may wait for a stream's consumer before the stream itself waits."""
SEGMENT_BOUND = 4
"""Segments of one stream that may wait for the offline lane."""
FILE_SOURCE = "file"
"""Source of streams that nobody is waiting for word by word: live ones go first."""
MICROPHONE_SOURCE = "microphone"
"""Source of the box's own microphone: never refused, and never given less, for load."""


class StreamHost(Protocol):
    """What a stream uses of the service that opened it."""

    online: Lane
    offline: Lane
    hub: Hub
    settings: SessionSettings
    describe: Callable[[StreamEvent], tuple[str, dict[str, Any]]]
    observer: PipelineObserver
    clock: Callable[[], float]
    load: LoadMeter
    history: FinalKeeper
    commands: CommandWatch

    def closed(self, stream: LiveStream) -> None:
        """Called when the stream's work has ended."""


class LiveStream:
    """One stream of audio on its way through the two lanes.

    `push` and `finish` by one producer, iteration by one consumer; both on the loop.
    """

    def __init__(
        self,
        service: StreamHost,
        models: ModelSet,
        options: StreamOptions,
        source: str,
        buffer_ms: int,
    ) -> None:
        self.session_id = uuid.uuid4().hex[:16]
        self.opened = time.time()
        """UNIX time."""
        self.options = options
        self.source = source
        self.is_live = source != FILE_SOURCE
        """Whether someone waits for its partials."""
        self.degraded: tuple[str, ...] = ()
        """What it does not get of what was asked for, because of the load."""
        self._service = service
        session = Session(models, options, service.settings, self.session_id)
        self.mode = session.mode
        self._kept_as = KeptSession(
            self.session_id, source, options.wav_name, session.mode.value, self.opened
        )
        self._input = AudioBuffer(options.sample_rate, buffer_ms)
        self._events: EventBuffer[StreamEvent] = EventBuffer(EVENT_BOUND)
        self._segments: asyncio.Queue[tuple[SpeechSegment, float] | None] = asyncio.Queue(
            SEGMENT_BOUND
        )
        self._failure: StreamFailed | None = None
        self._finished = asyncio.Event()
        self._task = asyncio.create_task(
            self._run(_Work(session, options.sample_rate, service.online.own_time)),
            name=f"stream-{self.session_id}",
        )

    async def push(self, samples: Int16) -> None:
        """Take samples at `options.sample_rate`, shape [n]; waits while the buffer is full.

        Raises StreamFailed when the stream has ended by a failure.
        """
        await self._input.put(samples, self._service.clock())
        if self._failure is not None:
            raise self._failure

    async def skip(self, samples: int) -> None:
        """Say that `samples` samples at `options.sample_rate` are lost."""
        await self._input.put(samples, self._service.clock())
        self._service.observer.dropped(samples / self.options.sample_rate)

    async def finish(self) -> None:
        """No more audio; the events go on until StreamFinished. Idempotent."""
        self._input.end()

    async def wait_finished(self) -> None:
        """Returns when everything that was pushed has been recognised."""
        await self._finished.wait()

    async def aclose(self) -> None:
        """Drop the stream with what it has not recognised yet; idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._input.fail()
        await self._end()

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def _run(self, work: _Work) -> None:
        SESSION.set(self.session_id)
        finals = asyncio.create_task(self._finals(work), name=f"finals-{self.session_id}")
        try:
            await self._pump(work)
            await self._segments.put(None)
            await finals
            await self._emit(StreamFinished(self.session_id, work.session.position_ms))
        except Exception as error:  # noqa: BLE001 - whatever fails ends this stream only
            await self._fail(error)
        finally:
            finals.cancel()
            await asyncio.gather(finals, return_exceptions=True)
            await self._end()

    async def _pump(self, work: _Work) -> None:
        """Hand audio to the online lane until the input ends."""
        service, is_end = self._service, False
        while not is_end:
            batch = await self._input.take()
            is_end = batch is None
            batch = batch or AudioBatch((), service.clock(), 0)
            job = partial(work.accept, batch.items, is_end)
            outputs, own_s = await service.online.run(job, urgent=self.is_live)
            if self.is_live:
                service.load.worked(own_s, batch.samples / self.options.sample_rate)
            await self._distribute(outputs, batch.arrived)

    async def _distribute(self, outputs: list[SessionOutput], arrived: float) -> None:
        for output in outputs:
            if isinstance(output, SpeechSegment):
                await self._put_segment(output, arrived)
                continue
            if isinstance(output, Transcript):
                self._latency(output, self._service.clock() - arrived)
            await self._emit(output)

    async def _put_segment(self, segment: SpeechSegment, arrived: float) -> None:
        if self._failure is not None:
            raise self._failure
        await self._segments.put((segment, arrived))

    async def _finals(self, work: _Work) -> None:
        """Decode segments on the offline lane, in order."""
        while (item := await self._segments.get()) is not None:
            segment, arrived = item
            try:
                decode = partial(work.session.decode, segment)
                final = await self._service.offline.run(decode, urgent=self.is_live)
            except Exception as error:  # noqa: BLE001 - ends this stream only
                await self._fail(error)
                self._task.cancel()
                return
            self._latency(final, self._service.clock() - arrived)
            await self._emit(final)

    def _latency(self, said: Transcript, seconds: float) -> None:
        observer, load = self._service.observer, self._service.load
        if said.is_final:
            observer.final_latency(seconds)
        else:
            observer.partial_latency(seconds)
        if self.is_live and said.is_final:
            load.final_latency(seconds)
        elif self.is_live:
            load.partial_latency(seconds)

    async def _emit(self, event: StreamEvent) -> None:
        heard: CommandHeard | None = None
        if isinstance(event, Transcript) and event.is_final:
            event = self._service.commands.read(event)
            # What is shown is already on the disk.
            await self._service.history.keep(self._kept_as, event)
            heard = self._service.commands.heard(event, self.source)
        await self._publish(event)
        if heard is not None:
            await self._publish(heard)

    async def _publish(self, event: StreamEvent) -> None:
        kind, data = self._service.describe(event)
        self._service.hub.publish(kind, data)
        await self._events.put(event, partial_key(event))

    async def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._service.observer.stream_failed()
        _log.error("the stream failed", exc_info=error, extra={"session_id": self.session_id})
        reason = f"{type(error).__name__}: {error}"
        self._failure = StreamFailed(f"recognition failed ({reason}); start the stream again")
        self._input.fail()
        await self._emit(StreamError(self.session_id, "stream_failed", str(self._failure)))

    async def _end(self) -> None:
        self._finished.set()
        await self._events.close()
        self._service.closed(self)


class _Work:
    """What the jobs of one stream share in the lanes."""

    def __init__(self, session: Session, rate: int, own_time: Callable[[], float]) -> None:
        self.session = session
        self._rate = rate
        self._own_time = own_time
        self._resampler = Resampler(rate)

    def accept(
        self, items: tuple[Int16 | int, ...], is_end: bool
    ) -> tuple[list[SessionOutput], float]:
        """Audio and gaps, in order; what they decided, and the seconds of own work that it took.

        Runs in the online lane.
        """
        started = self._own_time()
        outputs: list[SessionOutput] = []
        for item in items:
            if isinstance(item, int):
                outputs += self.session.accept(self._resampler.finish())
                self._resampler = Resampler(self._rate)
                outputs += self.session.skip(round(item * SAMPLE_RATE / self._rate))
            else:
                outputs += self.session.accept(self._resampler.accept(item))
        if is_end:
            outputs += self.session.accept(self._resampler.finish())
            outputs += self.session.finish()
        return outputs, self._own_time() - started
