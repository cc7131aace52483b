"""Streams that outlive their socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest_asyncio

from agent.pipeline.resume import ResumableStream, StreamRegistry
from agent.pipeline.service import TranscriptionService
from agent.types import AudioGap, StreamEvent, StreamFinished, StreamOptions, Transcript
from tests.fakes import silence, tone

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), tone(5, 3), silence(5)])


@pytest_asyncio.fixture
async def registry(service: TranscriptionService) -> AsyncIterator[StreamRegistry]:
    made = StreamRegistry(service, resume_s=0.3, keep_events=50)
    yield made
    await made.stop()


async def read_all(stream: ResumableStream, after: int = 0) -> list[tuple[int, StreamEvent]]:
    return [item async for item in stream.events(after)]


def finals(items: list[tuple[int, StreamEvent]]) -> list[str]:
    return [e.text for _, e in items if isinstance(e, Transcript) and e.is_final]


async def test_overlapping_audio_is_taken_once(registry: StreamRegistry) -> None:
    stream = await registry.start(StreamOptions())
    assert await stream.push(0, TALK[:5000]) == 5000
    assert await stream.push(2000, TALK[2000:4000]) == 5000
    assert await stream.push(3000, TALK[3000:]) == len(TALK)
    await stream.finish()
    items = await read_all(stream)
    assert finals(items) == ["3333", "77555"]
    assert [seq for seq, _ in items] == sorted({seq for seq, _ in items})


async def test_a_hole_is_a_gap_event(registry: StreamRegistry) -> None:
    stream = await registry.start(StreamOptions())
    await stream.push(0, silence(2))
    assert await stream.push(16000, silence(1)) == 17600
    await stream.finish()
    gaps = [e for _, e in await read_all(stream) if isinstance(e, AudioGap)]
    assert [(g.start_ms, g.dropped_ms) for g in gaps] == [(200, 800)]


async def test_a_client_that_comes_back_gets_the_events_it_missed(
    registry: StreamRegistry,
) -> None:
    stream = await registry.start(StreamOptions())
    await stream.push(0, TALK[: 16 * 1300])
    seen: list[tuple[int, StreamEvent]] = []
    async for item in stream.events(0):
        seen.append(item)
        if isinstance(item[1], Transcript) and item[1].is_final:
            break
    stream.detach()
    again = registry.resume(stream.resume_id)
    assert again is stream
    await stream.push(stream.next_sample, TALK[stream.next_sample :])
    await stream.finish()
    rest = await read_all(stream, seen[-1][0])
    assert finals(seen) + finals(rest) == ["3333", "77555"]
    assert rest[0][0] > seen[-1][0]
    assert isinstance(rest[-1][1], StreamFinished)


async def test_a_second_reader_takes_over_from_the_first(registry: StreamRegistry) -> None:
    stream = await registry.start(StreamOptions())
    first = asyncio.create_task(read_all(stream))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(read_all(stream))
    assert await asyncio.wait_for(first, 5) == []
    await stream.push(0, TALK)
    await stream.finish()
    assert finals(await asyncio.wait_for(second, 10)) == ["3333", "77555"]


async def test_a_stream_whose_client_stays_away_ends(
    registry: StreamRegistry, service: TranscriptionService
) -> None:
    stream = await registry.start(StreamOptions())
    stream.detach()
    stream.detach()
    await asyncio.sleep(0.6)
    assert registry.resume(stream.resume_id) is None
    assert len(registry) == 0
    assert service.sessions == 0


async def test_a_resumed_stream_does_not_expire(registry: StreamRegistry) -> None:
    stream = await registry.start(StreamOptions())
    stream.detach()
    assert registry.resume(stream.resume_id) is stream
    await asyncio.sleep(0.5)
    assert registry.resume(stream.resume_id) is stream


async def test_an_unknown_id_is_not_resumed(registry: StreamRegistry) -> None:
    assert registry.resume("nothing") is None


async def test_undelivered_events_are_kept_beyond_the_bound_of_delivered_ones(
    service: TranscriptionService,
) -> None:
    registry = StreamRegistry(service, resume_s=5, keep_events=8)
    stream = await registry.start(StreamOptions())
    audio = np.concatenate([np.concatenate([tone(1 + i % 9, 2), silence(3)]) for i in range(30)])
    push = asyncio.create_task(stream.push(0, audio))
    await asyncio.sleep(0.3)
    items = asyncio.create_task(read_all(stream))
    await push
    await stream.finish()
    assert finals(await items) == [str(1 + i % 9) * 2 for i in range(30)]
    await registry.stop()
