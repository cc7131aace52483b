"""Segments of every length are run before the agent is ready."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from agent.errors import InferenceError
from agent.pipeline.lanes import Lane
from agent.pipeline.warm_up import warm_up
from agent.types import SAMPLE_RATE, Int16, StreamOptions
from tests.fakes import fake_models, tone

CLIP = tone(3, 20)


class Reader:
    """Keeps the lengths that it was given, seconds; fails on those above `most_s`."""

    def __init__(self, most_s: float = 1000) -> None:
        self.lengths: list[float] = []
        self._most_s = most_s

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[object]:
        seconds = len(batch[0]) / SAMPLE_RATE
        if seconds > self._most_s:
            raise InferenceError("the GPU's memory is full", file="m/model")
        self.lengths.append(seconds)
        return []


@pytest_asyncio.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane("offline", 4)
    made.start()
    yield made
    await made.close(5)


async def test_lengths_double_up_to_the_longest_segment(lane: Lane) -> None:
    reader = Reader()
    models = replace(fake_models(), offline=reader)  # type: ignore[arg-type]
    assert await warm_up(models, CLIP, lane, longest_s=60) == 60
    assert reader.lengths == [0.5, 1, 2, 4, 8, 16, 32, 60]


async def test_a_length_that_does_not_fit_is_told_and_shorter_ones_serve(
    lane: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader(most_s=10)
    models = replace(fake_models(), offline=reader)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert await warm_up(models, CLIP, lane, longest_s=60) == 8
    assert "segments of 16 s fail on the GPU, those of 8.0 s do not" in caplog.text
    assert "inference.gpu_memory_mb" in caplog.text


async def test_without_a_second_pass_there_is_nothing_to_run(lane: Lane) -> None:
    assert await warm_up(fake_models(offline=False), CLIP, lane, longest_s=60) == 0
