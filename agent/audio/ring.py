"""A bounded queue of audio that drops the oldest and remembers how much: for what can't wait."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""Shape [n], or [n, channels]: a ring counts rows."""


class Ring:
    """Audio and gaps in their order. Safe between threads; never blocks."""

    def __init__(self, bound: int) -> None:
        """`bound`: samples (rows) that it holds at most."""
        self._bound = bound
        self._items: deque[Samples | int] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self.overflows = 0
        """How often something was dropped."""

    def __len__(self) -> int:
        """Samples held, without those that are lost."""
        return self._held

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither samples nor gaps."""
        return not self._items

    def push(self, samples: Samples) -> None:
        """Add samples; the oldest make room for them."""
        if not len(samples):
            return
        with self._lock:
            self._items.append(samples)
            self._held += len(samples)
            if self._held > self._bound:
                self.overflows += 1
                self._drop()

    def resize(self, bound: int) -> None:
        """Another bound; what is beyond it is dropped at the next push."""
        with self._lock:
            self._bound = bound

    def skip(self, samples: int) -> None:
        """Say that so many samples are lost at this point."""
        if samples <= 0:
            return
        with self._lock:
            if self._items and isinstance(last := self._items[-1], int):
                self._items[-1] = last + samples
            else:
                self._items.append(samples)

    def take(self, most: int) -> tuple[Samples | int, ...]:
        """Samples, and numbers of lost ones, in order; whole blocks, about `most` samples."""
        taken: list[Samples | int] = []
        size = 0
        with self._lock:
            while self._items and size < most:
                item = self._items.popleft()
                taken.append(item)
                size += 0 if isinstance(item, int) else len(item)
            self._held -= size
        return tuple(taken)

    def clear(self) -> None:
        """Forget everything, gaps too."""
        with self._lock:
            self._items.clear()
            self._held = 0

    def _drop(self) -> None:
        lost = 0
        while self._held > self._bound:
            item = self._items.popleft()
            if isinstance(item, int):
                lost += item
                continue
            over = self._held - self._bound
            if len(item) > self._bound:  # one block larger than the ring: its end is kept
                self._items.appendleft(item[over:])
                lost, self._held = lost + over, self._held - over
                continue
            lost += len(item)
            self._held -= len(item)
        if self._items and isinstance(first := self._items[0], int):
            self._items[0] = first + lost
        else:
            self._items.appendleft(lost)
