"""Streams that outlive their socket: a client that comes back goes on where it was."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator

from agent.pipeline.buffers import partial_key
from agent.pipeline.service import LiveStream, TranscriptionService
from agent.types import Int16, StreamEvent, StreamOptions

_log = logging.getLogger(__name__)


class StreamRegistry:
    """Owner of the resumable streams. Used on the loop only."""

    def __init__(self, service: TranscriptionService, resume_s: float, keep_events: int) -> None:
        self._service = service
        self._resume_s = resume_s
        self._keep_events = keep_events
        self._streams: dict[str, ResumableStream] = {}
        self._expiring: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def keep(self, resume_s: float, keep_events: int) -> None:
        """Other bounds: how long a cut stream waits, and how many events a new one keeps."""
        self._resume_s, self._keep_events = resume_s, keep_events

    async def start(self, options: StreamOptions, *, source: str = "page") -> ResumableStream:
        """A new stream. Raises Overloaded and NotReady as the service does."""
        live = await self._service.open(options, source=source)
        stream = ResumableStream(self, live, self._keep_events)
        self._streams[stream.resume_id] = stream
        return stream

    def resume(self, resume_id: str) -> ResumableStream | None:
        """The stream of an id handed out earlier; None when it is unknown or has expired."""
        stream = self._streams.get(resume_id)
        if stream is not None and (task := self._expiring.pop(resume_id, None)):
            task.cancel()
        return stream

    def detached(self, stream: ResumableStream) -> None:
        """Called by a stream whose socket is gone: it waits for its client, then ends."""
        if stream.resume_id in self._streams and stream.resume_id not in self._expiring:
            self._expiring[stream.resume_id] = asyncio.create_task(
                self._expire(stream), name=f"expire-{stream.session_id}"
            )

    async def stop(self) -> None:
        """Drop every stream and every timer."""
        tasks = list(self._expiring.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in list(self._streams.values()):
            await self._remove(stream)

    async def _expire(self, stream: ResumableStream) -> None:
        await asyncio.sleep(self._resume_s)
        said = {"session_id": stream.session_id}
        _log.info("the stream was not resumed within %g s", self._resume_s, extra=said)
        await stream.finish()
        await stream.wait_finished()
        self._expiring.pop(stream.resume_id, None)
        await self._remove(stream)

    async def _remove(self, stream: ResumableStream) -> None:
        self._streams.pop(stream.resume_id, None)
        await stream.aclose()


class ResumableStream:
    """A live stream with numbered events and a position, independent of any socket.

    A newer reader of `events` ends the older one, so a client may come back on a new socket
    before the old one is known to be dead.
    """

    def __init__(self, registry: StreamRegistry, live: LiveStream, keep_events: int) -> None:
        self.resume_id = uuid.uuid4().hex
        self.session_id = live.session_id
        self.mode = live.mode
        self.degraded = live.degraded
        self.next_sample = 0
        self._registry = registry
        self._live = live
        self._keep = keep_events
        self._log: deque[tuple[int, StreamEvent]] = deque()
        self._seq = 0
        self._delivered = 0
        self._ended = False
        self._reader = 0
        self._changed = asyncio.Condition()
        self._pushing = asyncio.Lock()
        self._collector = asyncio.create_task(self._collect(), name=f"events-{self.session_id}")

    async def push(self, start: int, samples: Int16) -> int:
        """Take samples whose first has index `start`; the index of the next one wanted.

        What was taken before is dropped; a hole becomes a gap event. Raises StreamFailed.
        """
        async with self._pushing:
            if start > self.next_sample:
                await self._live.skip(start - self.next_sample)
                self.next_sample = start
            fresh = samples[max(0, self.next_sample - start) :]
            if len(fresh):
                await self._live.push(fresh)
                self.next_sample += len(fresh)
            return self.next_sample

    async def finish(self) -> None:
        """No more audio."""
        await self._live.finish()

    async def wait_finished(self) -> None:
        """Returns when everything that was pushed has been recognised."""
        await self._live.wait_finished()

    async def aclose(self) -> None:
        """Drop the stream; idempotent."""
        await self._live.aclose()
        await self._collector

    async def events(self, after_seq: int) -> AsyncIterator[tuple[int, StreamEvent]]:
        """Kept events with a seq above `after_seq`, then live ones; ends with the stream."""
        self._reader += 1
        mine, cursor = self._reader, after_seq
        async with self._changed:
            self._changed.notify_all()
        while mine == self._reader:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: mine != self._reader or self._ended or self._seq > cursor  # noqa: B023
                )
                batch = [item for item in self._log if item[0] > cursor]
            if mine != self._reader:
                return
            if not batch:
                if self._ended:
                    return
                cursor = max(cursor, self._seq)
                continue
            for seq, event in batch:
                yield seq, event
                cursor = seq
                await self._mark_delivered(seq)

    def detach(self) -> None:
        """The socket is gone; the stream waits for its client and ends when it stays away."""
        self._registry.detached(self)

    async def _mark_delivered(self, seq: int) -> None:
        async with self._changed:
            self._delivered = max(self._delivered, seq)
            self._changed.notify_all()

    async def _collect(self) -> None:
        """Number the live stream's events; waits while too many are undelivered."""
        async for event in self._live:
            async with self._changed:
                await self._changed.wait_for(self._has_room)
                self._append(event)
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        undelivered = self._seq - max(self._delivered, self._seq - len(self._log))
        return undelivered < self._keep

    def _append(self, event: StreamEvent) -> None:
        key = partial_key(event)
        if key is not None:
            for i, (_, other) in enumerate(self._log):
                if partial_key(other) == key:
                    del self._log[i]
                    break
        self._seq += 1
        self._log.append((self._seq, event))
        while len(self._log) > self._keep and self._log[0][0] <= self._delivered:
            self._log.popleft()
