"""Rounds in which every side does the same work in turn, and what comes of their times.

Other programs slow all sides of a round alike, so what is compared is the ratio within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Any

_MS = 1000


@dataclass(frozen=True)
class Lap:
    """One piece of work of one side."""

    wall_s: float
    cpu_s: float
    """Of all threads of the process."""


def run_rounds(
    sides: Mapping[str, Callable[[], object]], rounds: int, *, pause_s: float = 0.05
) -> dict[str, list[Lap]]:
    """Laps of every side; each round begins with another side, and one round before is not
    counted."""
    laps: dict[str, list[Lap]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            time.sleep(pause_s)
            lap = timed(sides[name])
            if number:
                laps[name].append(lap)
    return laps


def timed(work: Callable[[], object]) -> Lap:
    """One lap of the work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Lap(time.perf_counter() - wall, time.process_time() - cpu)


def mean_lap(laps: Sequence[Lap]) -> Lap:
    """The mean of laps that belong together."""
    return Lap(fmean(lap.wall_s for lap in laps), fmean(lap.cpu_s for lap in laps))


def compared(laps: Mapping[str, Sequence[Lap]], ours: str) -> dict[str, Any]:
    """Times of every side in ms, and the ratios of `ours` to each other side, round by round."""
    return {
        "sides": {name: _times(found) for name, found in laps.items()},
        "ratios": {
            f"{ours} / {name}": {
                "wall": spread([a.wall_s / b.wall_s for a, b in _pairs(laps, ours, name)]),
                "cpu": spread([a.cpu_s / b.cpu_s for a, b in _pairs(laps, ours, name)]),
            }
            for name in laps
            if name != ours
        },
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {key: round(values[0], 4) for key in ("p25", "p50", "p75")}
    low, _, high = quantiles(values, n=4, method="inclusive")
    found = {"p25": low, "p50": median(values), "p75": high}
    return {key: round(value, 4) for key, value in found.items()}


def _times(laps: Sequence[Lap]) -> dict[str, Any]:
    return {
        "laps": len(laps),
        "wall_ms": spread([lap.wall_s * _MS for lap in laps]),
        "cpu_ms": spread([lap.cpu_s * _MS for lap in laps]),
        "least_ms": round(min(lap.wall_s for lap in laps) * _MS, 2),
    }


def _pairs(laps: Mapping[str, Sequence[Lap]], ours: str, other: str) -> list[tuple[Lap, Lap]]:
    return list(zip(laps[ours], laps[other], strict=True))
