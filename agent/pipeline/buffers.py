"""Bounded buffers of a stream: audio on its way in, events on their way out."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from agent.types import Int16, StreamEvent, Transcript

E = TypeVar("E")

MAX_JOB_MS = 600
"""Audio that one job of the online lane takes at most, so that no stream holds the lane long."""
MIN_JOB_MS = 100
"""Less audio than this decides nothing (`agent.engine.session` works in steps of it), so that a job
for it would be idle."""


@dataclass(frozen=True)
class AudioBatch:
    """Audio for one job."""

    items: tuple[Int16 | int, ...]
    """Samples [n], and numbers of samples that are lost, in order."""
    arrived: float
    """When the newest of it came."""
    samples: int
    """Samples in all, without the lost ones."""


class AudioBuffer:
    """Bounded audio between one producer and one consumer on the same loop."""

    def __init__(self, rate: int, buffer_ms: int) -> None:
        self._bound = rate * buffer_ms // 1000
        self._most = rate * MAX_JOB_MS // 1000
        self._least = rate * MIN_JOB_MS // 1000
        self._items: deque[tuple[Int16 | int, float]] = deque()
        self._samples = 0
        self._gaps = 0
        self._ended = False
        self._room = asyncio.Event()
        self._room.set()
        self._enough = asyncio.Event()

    async def put(self, item: Int16 | int, arrived: float) -> None:
        """Add audio in pieces no larger than a job, waiting for room before each; a number stands
        for so many lost samples."""
        pieces: list[Int16 | int] = [item]
        if isinstance(item, np.ndarray) and len(item) > self._most:
            pieces = [item[i : i + self._most] for i in range(0, len(item), self._most)]
        for piece in pieces:
            while self._samples >= self._bound and not self._ended:
                self._room.clear()
                await self._room.wait()
            if self._ended:
                return
            self._items.append((piece, arrived))
            self._samples += 0 if isinstance(piece, int) else len(piece)
            self._gaps += isinstance(piece, int)
            self._tell()

    def end(self) -> None:
        """No more audio."""
        self._ended = True
        self._tell()

    def fail(self) -> None:
        """Forget what waits and let no producer wait any longer."""
        self._items.clear()
        self._samples = self._gaps = 0
        self.end()

    async def take(self) -> AudioBatch | None:
        """Audio for one job; None at the end."""
        while not self._has_enough():
            self._enough.clear()
            await self._enough.wait()
        if not self._items:
            return None
        taken: list[Int16 | int] = []
        size, arrived = 0, 0.0
        while self._items and size < self._most:
            item, arrived = self._items.popleft()
            taken.append(item)
            self._gaps -= isinstance(item, int)
            size += 0 if isinstance(item, int) else len(item)
        self._samples -= size
        self._room.set()
        return AudioBatch(tuple(taken), arrived, size)

    def _has_enough(self) -> bool:
        return self._samples >= self._least or self._gaps > 0 or self._ended

    def _tell(self) -> None:
        if self._has_enough():
            self._enough.set()
        if self._ended:
            self._room.set()


def partial_key(event: StreamEvent) -> tuple[str, int] | None:
    """What a newer partial replaces; None for an event that must not be replaced."""
    if isinstance(event, Transcript) and not event.is_final:
        return event.session_id, event.segment_id
    return None


class EventBuffer(Generic[E]):
    """Events between one producer and one consumer on the same loop.

    A waiting partial is replaced by a newer one of its segment. Otherwise `put` waits while
    `bound` events are waiting.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._items: deque[tuple[tuple[str, int] | None, E]] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, event: E, key: tuple[str, int] | None = None) -> None:
        """Add an event; one with the same `key` that still waits is dropped."""
        async with self._changed:
            if key is not None:
                self._drop(key)
            await self._changed.wait_for(lambda: len(self._items) < self._bound or self._closed)
            if not self._closed:
                self._items.append((key, event))
                self._changed.notify_all()

    async def get(self) -> E | None:
        """The oldest event; None once the buffer is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items) or self._closed)
            if not self._items:
                return None
            _, event = self._items.popleft()
            self._changed.notify_all()
            return event

    async def close(self) -> None:
        """No more events: what waits can still be taken, what is put is dropped."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop(self, key: tuple[str, int]) -> None:
        for i, (other, _) in enumerate(self._items):
            if other == key:
                del self._items[i]
                return
