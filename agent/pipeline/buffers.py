"""Bounded event buffers: partials give way to newer ones, nothing else is ever dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from agent.types import StreamEvent, Transcript

E = TypeVar("E")


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
