"""Measurements that forget: costs of runs, means, and how late one in twenty was."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
"""Lateness is judged by what was seen in this time."""
_TAIL = 0.95
"""Share of the latencies that must be within the limit."""
_FORGET = 0.995
"""What a measurement still counts after the next one."""
_FEW = 20
"""Latencies below which a single late one says nothing yet."""


class RunCost:
    """Seconds of a run as a line over the number of items that share it, newer runs counting more.

    Until runs of several sizes were seen it promises no gain from sharing.
    """

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._c = self._nc = 0.0

    def add(self, items: int, seconds: float) -> None:
        """A run for so many items took so long."""
        for name, value in (
            ("_weight", 1.0),
            ("_n", items),
            ("_nn", items * items),
            ("_c", seconds),
            ("_nc", items * seconds),
        ):
            setattr(self, name, getattr(self, name) * _FORGET + value)

    def per_item(self, items: int) -> float:
        """Expected seconds for each of so many items that share a run."""
        if not self._weight:
            return 0.0
        n, c = self._n / self._weight, self._c / self._weight
        variance = self._nn / self._weight - n * n
        slope = c / n
        if variance > 0.05:
            slope = min(max((self._nc / self._weight - n * c) / variance, 0.0), slope)
        return (c - slope * n) / items + slope


class Mean:
    """A weighted mean in which newer values count more."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float, weight: float) -> None:
        """A value that was summed over so much weight."""
        self._sum = self._sum * _FORGET + value
        self._weight = self._weight * _FORGET + weight

    @property
    def value(self) -> float:
        """0 before anything was added."""
        return self._sum / self._weight if self._weight else 0.0


def tail(seen: deque[tuple[float, float]], now: float, few: int = _FEW) -> float:
    """The latency that one in twenty exceeds; 0 while there are fewer than `few`."""
    while seen and now - seen[0][0] > WINDOW_S:
        seen.popleft()
    if len(seen) < max(1, few):
        return 0.0
    ordered = sorted(latency for _, latency in seen)
    return ordered[min(len(ordered) - 1, int(_TAIL * len(ordered)))]
