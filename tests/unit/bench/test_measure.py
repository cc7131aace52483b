"""What is timed for each role, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

from agent.bench.measure import MAX_RUNS, MIN_RUNS, Times, measure, streams_at_once, times_of
from agent.store.workload import TEXT

CLIP = np.zeros(16000, np.int16)


class Model:
    """Every kind of model at once; notes what it is given."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def decode(self, batch: list[Any], options: object) -> None:
        self.done.append(len(batch[0]))

    def punctuate(self, text: str) -> None:
        self.done.append(text)

    def start_stream(self, *options: object) -> Model:
        self.done.append("start")
        return self

    def accept(self, samples: Any) -> None:
        self.done.append(len(samples))

    def finish(self) -> None:
        self.done.append("finish")


def ticks(step_s: float) -> Callable[[], float]:
    times: Iterator[float] = count(0.0, step_s)
    return lambda: next(times)


def test_an_offline_recogniser_reads_10_and_30_s() -> None:
    model = Model()
    short, long = measure("asr_offline", model, CLIP, 0.0, clock=ticks(1.0))
    assert (short.what, short.audio_ms, short.runs) == ("10 s of audio", 10000, MIN_RUNS)
    assert (long.what, long.audio_ms) == ("30 s of audio", 30000)
    assert model.done == [160000] * (MIN_RUNS + 1) + [480000] * (MIN_RUNS + 1)
    assert short.p50_ms == pytest.approx(1000)
    assert short.real_time_factor == pytest.approx(0.1)


def test_a_streaming_recogniser_is_timed_hop_by_hop_without_the_ends_of_streams() -> None:
    model = Model()
    (hops,) = measure("asr_online", model, CLIP, 1e9, clock=ticks(0.0))
    assert (hops.what, hops.runs) == ("hop of 600 ms", MAX_RUNS)
    assert set(model.done) == {"start", 9600}
    assert model.done[:52] == ["start", *[9600] * 50, "start"]


def test_a_vad_is_timed_by_chunks_of_100_ms() -> None:
    model = Model()
    (chunks,) = measure("vad", model, CLIP, 0.0, clock=ticks(0.001))
    assert chunks.what == "chunk of 100 ms"
    assert model.done == ["start", *[1600] * (MIN_RUNS + 1)]
    assert streams_at_once(chunks) == 100


def test_a_punctuation_model_gets_a_text() -> None:
    model = Model()
    (text,) = measure("punctuation", model, CLIP, 0.0, clock=ticks(1.0))
    assert model.done == [TEXT] * (MIN_RUNS + 1)
    assert (text.audio_ms, text.real_time_factor) == (0.0, 0.0)


def test_the_time_is_bounded() -> None:
    (hops,) = measure("asr_online", Model(), CLIP, 10.0, clock=ticks(1.0))
    assert 3 <= hops.runs <= 10


def test_percentiles_are_of_what_was_measured() -> None:
    times = times_of("x", 600.0, [i / 1000 for i in range(100, 0, -1)])
    assert (times.p50_ms, times.p95_ms, times.least_ms) == (50.5, 96.0, 1.0)
    assert times_of("x", 0.0, [0.5]) == Times("x", 0.0, 1, 500.0, 500.0, 500.0)
    assert streams_at_once(times) == 11
