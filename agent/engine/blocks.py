"""Audio of a stream: cut into hops of one size, and its last seconds by their index."""

from __future__ import annotations

import numpy as np

from agent.types import Int16


class Reblocker:
    """Cuts audio of any message size into blocks of one size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest: Int16 = np.zeros(0, np.int16)

    @property
    def waiting(self) -> int:
        return len(self._rest)

    def push(self, samples: Int16) -> list[Int16]:
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) - len(joined) % self._size
        self._rest = joined[whole:].copy()
        return [joined[i : i + self._size] for i in range(0, whole, self._size)]

    def flush(self) -> Int16:
        rest, self._rest = self._rest, np.zeros(0, np.int16)
        return rest


class History:
    """The last samples of the stream, addressed by their absolute index."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._buffer: Int16 = np.zeros(2 * keep, np.int16)
        self._filled = 0
        self.end = 0
        """Index behind the newest sample."""

    @property
    def start(self) -> int:
        """Index of the oldest sample that is kept."""
        return self.end - self._filled

    def push(self, samples: Int16) -> None:
        """Add at most `keep` samples."""
        n = len(samples)
        if self._filled + n > len(self._buffer):
            self._buffer[: self._keep] = self._buffer[self._filled - self._keep : self._filled]
            self._filled = self._keep
        self._buffer[self._filled : self._filled + n] = samples
        self._filled += n
        self.end += n

    def cut(self, first: int, behind: int) -> Int16:
        """A copy of the samples [first, behind) as far as they are kept."""
        a, b = max(first - self.start, 0), min(behind, self.end) - self.start
        return self._buffer[a:b].copy() if b > a else np.zeros(0, np.int16)

    def restart(self, at: int) -> None:
        """Forget everything; the next sample has index `at`."""
        self._filled, self.end = 0, at
