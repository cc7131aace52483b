"""The series behind the chart."""

from __future__ import annotations

from itertools import pairwise

from agent.ops.trend import EVERY_S, KEPT_S, Sample, Trend


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


def measure(now: float) -> Sample:
    return Sample(now, 5.0, 10.0, 0, None, None)


def test_samples_are_regular_and_bounded() -> None:
    clock = Clock()
    trend = Trend(measure, clock)
    for _ in range(2 * int(KEPT_S)):
        trend.look()
        clock.now += 1
    times = [sample["time"] for sample in trend.to_json()["samples"]]
    assert len(times) == KEPT_S / EVERY_S
    assert {b - a for a, b in pairwise(times)} == {EVERY_S}


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    clock = Clock()
    trend = Trend(measure, clock)
    trend.look()
    clock.now -= 3000
    trend.look()
    assert len(trend.to_json()["samples"]) == 2
