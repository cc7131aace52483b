"""What a loaded model costs: the time for audio, for a hop of a stream, for a text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

from agent.store.roles import Role
from agent.store.workload import CHUNK_MS, TEXT, hop_samples, steps, tiled
from agent.types import SAMPLE_RATE, Int16, StreamOptions

AUDIO_S = (10.0, 30.0)
MIN_RUNS = 2
MAX_RUNS = 200
_STREAM_S = 30.0
_MS = 1000


@dataclass(frozen=True)
class Times:
    """Times of one piece of work, in ms."""

    what: str
    """`10 s of audio`, `hop of 600 ms`, `chunk of 100 ms`, `text of 66 characters`."""
    audio_ms: float
    """Audio that one piece of work is for; 0 for a text."""
    runs: int
    p50_ms: float
    p95_ms: float
    least_ms: float

    @property
    def real_time_factor(self) -> float:
        """Time of work by time of audio; 0 for a text."""
        return self.p50_ms / self.audio_ms if self.audio_ms else 0.0


def measure(
    role: Role,
    model: Any,
    clip: Int16,
    limit_s: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Times]:
    """Time what a model of the role is used for, about `limit_s` long for each kind of work.

    The first piece of each kind is not counted. Raises what the model raises.
    """
    if role == "asr_offline":
        return [_audio(model, tiled(clip, seconds), limit_s, clock) for seconds in AUDIO_S]
    if role == "punctuation":
        times = _repeated(lambda: model.punctuate(TEXT), limit_s, clock)
        return [times_of(f"text of {len(TEXT)} characters", 0.0, times)]
    options = StreamOptions()
    chunk = hop_samples(options) if role == "asr_online" else CHUNK_MS * SAMPLE_RATE // _MS
    length_ms = chunk * _MS / SAMPLE_RATE
    word = "hop" if role == "asr_online" else "chunk"
    works = _streams(role, model, tiled(clip, _STREAM_S), options, chunk)
    times = _timed(works, limit_s, clock)
    return [times_of(f"{word} of {length_ms:g} ms", length_ms, times)]


def streams_at_once(times: Times) -> int:
    """Streams in real time that one thread of the model's could serve, by the cost of a step."""
    return int(times.audio_ms / times.p50_ms) if times.p50_ms else 0


def times_of(what: str, audio_ms: float, seconds: Sequence[float]) -> Times:
    """Median, 95th percentile and least of what was measured."""
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    values = (median(ordered) * _MS, late * _MS, ordered[0] * _MS)
    return Times(what, audio_ms, len(ordered), *(round(value, 3) for value in values))


def _audio(model: Any, audio: Int16, limit_s: float, clock: Callable[[], float]) -> Times:
    options = StreamOptions()
    seconds = len(audio) / SAMPLE_RATE
    times = _repeated(lambda: model.decode([audio], options), limit_s, clock)
    return times_of(f"{seconds:g} s of audio", seconds * _MS, times)


def _repeated(
    work: Callable[[], object], limit_s: float, clock: Callable[[], float]
) -> list[float]:
    def works() -> Iterator[None]:
        while True:
            work()
            yield

    return _timed(works(), limit_s, clock)


def _streams(
    role: Role, model: Any, audio: Int16, options: StreamOptions, chunk: int
) -> Iterator[None]:
    """Steps of one stream after the other, without their ends, which are of another length."""
    while True:
        yield from islice(steps(role, model, audio, options, chunk), len(audio) // chunk)


def _timed(works: Iterator[None], limit_s: float, clock: Callable[[], float]) -> list[float]:
    """Seconds of each piece of work but the first."""
    next(works)
    times: list[float] = []
    ends = clock() + limit_s
    while len(times) < MIN_RUNS or (len(times) < MAX_RUNS and clock() < ends):
        begun = clock()
        next(works)
        times.append(clock() - begun)
    return times
