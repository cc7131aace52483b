"""Live streams over the two lanes: the one way into recognition."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from agent.audio.convert import Resampler
from agent.engine.session import Session, SessionOutput, SessionSettings
from agent.errors import NotReady, Overloaded, StreamFailed
from agent.pipeline.buffers import EventBuffer, partial_key
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.observer import NoObserver, PipelineObserver, timed
from agent.types import (
    SAMPLE_RATE,
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

Describe = Callable[[StreamEvent], tuple[str, dict[str, Any]]]
"""A stream's event as the hub publishes it: its type and its JSON fields."""

MAX_JOB_MS = 600
"""Audio that one job of the online lane takes at most, so that no stream holds the lane long."""
EVENT_BOUND = 200
"""Events that may wait for a stream's consumer before the stream itself waits."""
SEGMENT_BOUND = 4
"""Segments of one stream that may wait for the offline lane."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the live streams."""

    max_sessions: int = 100
    buffer_ms: int = 2000


class TranscriptionService:
    """Opens streams on the models in use."""

    def __init__(
        self,
        online: Lane,
        offline: Lane,
        hub: Hub,
        limits: Limits,
        settings: SessionSettings,
        describe: Describe,
        observer: PipelineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.online = online
        self.offline = offline
        self.hub = hub
        self.settings = settings
        self.describe = describe
        self.observer = observer or NoObserver()
        self.clock = clock
        self._limits = limits
        self._models: ModelSet | None = None
        self._not_ready = "the agent is starting"
        self._streams: dict[str, LiveStream] = {}
        self._stopping = False

    @property
    def sessions(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    @property
    def models(self) -> ModelSet | None:
        """The models that new streams get."""
        return self._models

    def use(self, models: ModelSet) -> None:
        """Serve new streams with `models`; open streams finish on theirs."""
        self._models = timed(models, self.observer)

    def unavailable(self, reason: str) -> None:
        """Refuse new streams, saying why."""
        self._models, self._not_ready = None, reason

    async def open(self, options: StreamOptions, *, source: str) -> LiveStream:
        """A new stream. Raises NotReady without models, Overloaded at the bound."""
        if self._stopping:
            raise NotReady("the agent is stopping")
        if self._models is None:
            raise NotReady(self._not_ready)
        if len(self._streams) >= self._limits.max_sessions:
            raise Overloaded(
                f"{self._limits.max_sessions} streams are open, the most that this box takes "
                "(stream.max_sessions); try again later"
            )
        stream = LiveStream(self, self._models, options, source, self._limits.buffer_ms)
        self._streams[stream.session_id] = stream
        self.hub.publish("session_opened", {"session_id": stream.session_id, "source": source})
        return stream

    def closed(self, stream: LiveStream) -> None:
        """Called by a stream when its work has ended."""
        if self._streams.pop(stream.session_id, None) is not None:
            self.hub.publish(
                "session_closed", {"session_id": stream.session_id, "source": stream.source}
            )

    async def stop(self, timeout_s: float) -> None:
        """Take no new stream, let the open ones finish, drop what is left after the time."""
        self._stopping = True
        streams = list(self._streams.values())
        for stream in streams:
            await stream.finish()
        waiting = [asyncio.ensure_future(stream.wait_finished()) for stream in streams]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        for task in waiting:
            task.cancel()
        for stream in streams:
            await stream.aclose()


class LiveStream:
    """One stream of audio on its way through the two lanes.

    `push` and `finish` by one producer, iteration by one consumer; both on the loop.
    """

    def __init__(
        self,
        service: TranscriptionService,
        models: ModelSet,
        options: StreamOptions,
        source: str,
        buffer_ms: int,
    ) -> None:
        self.session_id = uuid.uuid4().hex[:16]
        self.options = options
        self.source = source
        self._service = service
        session = Session(models, options, service.settings, self.session_id)
        self.mode = session.mode
        self._input = _Input(options.sample_rate, buffer_ms)
        self._events: EventBuffer[StreamEvent] = EventBuffer(EVENT_BOUND)
        self._segments: asyncio.Queue[tuple[SpeechSegment, float] | None] = asyncio.Queue(
            SEGMENT_BOUND
        )
        self._failure: StreamFailed | None = None
        self._finished = asyncio.Event()
        self._task = asyncio.create_task(
            self._run(_Work(session, options.sample_rate)), name=f"stream-{self.session_id}"
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
        await self._input.end()

    async def wait_finished(self) -> None:
        """Returns when everything that was pushed has been recognised."""
        await self._finished.wait()

    async def aclose(self) -> None:
        """Drop the stream with what it has not recognised yet; idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._input.fail()
        await self._end()

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def _run(self, work: _Work) -> None:
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
        open_end = False
        while not open_end:
            batch = await self._input.take()
            open_end = batch is None
            items, arrived = batch or ([], self._service.clock())
            outputs = await self._service.online.run(partial(work.accept, items, open_end))
            await self._distribute(outputs, arrived)

    async def _distribute(self, outputs: list[SessionOutput], arrived: float) -> None:
        for output in outputs:
            if isinstance(output, SpeechSegment):
                await self._put_segment(output, arrived)
                continue
            if isinstance(output, Transcript):
                latency = self._service.clock() - arrived
                if output.is_final:
                    self._service.observer.final_latency(latency)
                else:
                    self._service.observer.partial_latency(latency)
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
                final = await self._service.offline.run(partial(work.session.decode, segment))
            except Exception as error:  # noqa: BLE001 - ends this stream only
                await self._fail(error)
                self._task.cancel()
                return
            self._service.observer.final_latency(self._service.clock() - arrived)
            await self._emit(final)

    async def _emit(self, event: StreamEvent) -> None:
        kind, data = self._service.describe(event)
        self._service.hub.publish(kind, data)
        await self._events.put(event, partial_key(event))

    async def _fail(self, error: Exception) -> None:
        if self._failure is not None:
            return
        self._service.observer.stream_failed()
        _log.error("stream %s failed", self.session_id, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        self._failure = StreamFailed(f"recognition failed ({reason}); start the stream again")
        await self._input.fail()
        await self._emit(StreamError(self.session_id, "stream_failed", str(self._failure)))

    async def _end(self) -> None:
        self._finished.set()
        await self._events.close()
        self._service.closed(self)


class _Work:
    """What the jobs of one stream share in the lanes."""

    def __init__(self, session: Session, rate: int) -> None:
        self.session = session
        self._rate = rate
        self._resampler = Resampler(rate)

    def accept(self, items: list[Int16 | int], is_end: bool) -> list[SessionOutput]:
        """Audio and gaps, in order. Runs in the online lane."""
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
        return outputs


class _Input:
    """Bounded audio between the producer and the pump; gaps are numbers of lost samples."""

    def __init__(self, rate: int, buffer_ms: int) -> None:
        self._bound = rate * buffer_ms // 1000
        self._job_samples = rate * MAX_JOB_MS // 1000
        self._items: list[tuple[Int16 | int, float]] = []
        self._samples = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, item: Int16 | int, arrived: float) -> None:
        """Add audio in pieces no larger than a job, waiting for room before each."""
        pieces: list[Int16 | int] = [item]
        if isinstance(item, np.ndarray):
            pieces = [
                item[i : i + self._job_samples] for i in range(0, len(item), self._job_samples)
            ]
        for piece in pieces:
            async with self._changed:
                await self._changed.wait_for(lambda: self._samples < self._bound or self._ended)
                if self._ended:
                    return
                self._items.append((piece, arrived))
                self._samples += 0 if isinstance(piece, int) else len(piece)
                self._changed.notify_all()

    async def end(self) -> None:
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def fail(self) -> None:
        """Forget what waits and let no producer wait any longer."""
        async with self._changed:
            self._ended, self._items, self._samples = True, [], 0
            self._changed.notify_all()

    async def take(self) -> tuple[list[Int16 | int], float] | None:
        """Audio for one job and the arrival time of its newest part; None at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items) or self._ended)
            if not self._items:
                return None
            taken: list[Int16 | int] = []
            size, arrived = 0, 0.0
            while self._items and size < self._job_samples:
                item, arrived = self._items.pop(0)
                taken.append(item)
                size += 0 if isinstance(item, int) else len(item)
            self._samples -= size
            self._changed.notify_all()
            return taken, arrived
