"""Live streams through both lanes, over fake models."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from agent.errors import NotReady, Overloaded, StreamFailed
from agent.pipeline.service import EVENT_BOUND, LiveStream, TranscriptionService
from agent.types import (
    AudioGap,
    RecognitionMode,
    StreamError,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
)
from tests.fakes import fake_models, silence, tone

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), tone(5, 3), silence(5)])


async def collect(stream: LiveStream) -> list[StreamEvent]:
    return [event async for event in stream]


def finals(events: list[StreamEvent]) -> list[str]:
    return [e.text for e in events if isinstance(e, Transcript) and e.is_final]


async def test_audio_becomes_partials_finals_and_a_finished_event(
    service: TranscriptionService,
) -> None:
    stream = await service.open(StreamOptions(), source="api")
    events = asyncio.create_task(collect(stream))
    for i in range(0, len(TALK), 1000):
        await stream.push(TALK[i : i + 1000])
    await stream.finish()
    got = await events
    assert finals(got) == ["3333", "77555"]
    assert isinstance(got[-1], StreamFinished)
    assert got[-1].duration_ms == len(TALK) // 16
    assert [e for e in got if isinstance(e, Transcript) and not e.is_final]
    assert service.sessions == 0
    assert service.observer.roles == {"vad", "asr_online", "asr_offline"}  # type: ignore[attr-defined]
    assert len(service.observer.finals) == 2  # type: ignore[attr-defined]


async def test_audio_at_another_rate_is_resampled(service: TranscriptionService) -> None:
    stream = await service.open(
        StreamOptions(mode=RecognitionMode.OFFLINE, sample_rate=8000), source="api"
    )
    events = asyncio.create_task(collect(stream))
    await stream.push(TALK[::2])
    await stream.finish()
    assert [len(text) for text in finals(await events)] == [4, 5]


async def test_the_most_sessions_are_open_and_one_more_is_refused(
    service: TranscriptionService,
) -> None:
    streams = [await service.open(StreamOptions(), source="api") for _ in range(3)]
    with pytest.raises(Overloaded, match=r"stream\.max_sessions"):
        await service.open(StreamOptions(), source="api")
    await streams[0].aclose()
    again = await service.open(StreamOptions(), source="api")
    for stream in (*streams, again):
        await stream.aclose()
    assert service.sessions == 0


async def test_without_models_a_stream_is_refused_with_the_reason(
    service: TranscriptionService,
) -> None:
    service.unavailable("no usable model: it is broken")
    with pytest.raises(NotReady, match="it is broken"):
        await service.open(StreamOptions(), source="api")


async def test_a_failing_job_ends_its_own_stream_only(service: TranscriptionService) -> None:
    good = await service.open(StreamOptions(), source="api")
    service.use(fake_models(fail_on="3333"))
    bad = await service.open(StreamOptions(), source="api")
    tasks = [asyncio.create_task(collect(s)) for s in (good, bad)]
    await good.push(TALK)
    await bad.push(TALK)
    await good.finish()
    await bad.finish()
    good_events, bad_events = await asyncio.gather(*tasks)
    assert finals(good_events) == ["3333", "77555"]
    error = bad_events[-1]
    assert isinstance(error, StreamError)
    assert "the graph broke" in error.message
    assert service.observer.failures == 1  # type: ignore[attr-defined]
    with pytest.raises(StreamFailed, match="start the stream again"):
        await bad.push(TALK)


async def test_a_full_buffer_slows_the_sender(service: TranscriptionService) -> None:
    gate = threading.Event()
    blocker = asyncio.create_task(service.online.run(lambda: gate.wait(20)))
    stream = await service.open(StreamOptions(), source="api")
    push = asyncio.create_task(stream.push(np.zeros(16000 * 10, np.int16)))
    await asyncio.sleep(0.1)
    assert not push.done()
    gate.set()
    await asyncio.wait_for(push, 10)
    await blocker
    await stream.aclose()


async def test_a_consumer_that_does_not_read_slows_the_stream_and_loses_no_final(
    service: TranscriptionService,
) -> None:
    stream = await service.open(StreamOptions(mode=RecognitionMode.OFFLINE), source="api")
    words = EVENT_BOUND
    audio = np.concatenate([np.concatenate([tone(1 + i % 9, 2), silence(3)]) for i in range(words)])
    push = asyncio.create_task(stream.push(audio))
    await asyncio.sleep(0.3)
    assert not push.done()
    events = asyncio.create_task(collect(stream))
    await push
    await stream.finish()
    assert finals(await events) == [str(1 + i % 9) * 2 for i in range(words)]


async def test_lost_audio_is_a_gap_event(service: TranscriptionService) -> None:
    stream = await service.open(StreamOptions(sample_rate=8000), source="api")
    await stream.push(tone(3, 4)[::2])
    await stream.skip(8000 * 2)
    await stream.push(np.zeros(800, np.int16))
    await stream.finish()
    gaps = [e for e in await collect(stream) if isinstance(e, AudioGap)]
    assert [gap.dropped_ms for gap in gaps] == [2000]
    assert service.observer.lost == [2.0]  # type: ignore[attr-defined]


async def test_dropping_a_stream_frees_its_tasks(service: TranscriptionService) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        stream = await service.open(StreamOptions(), source="api")
        await stream.push(TALK[:5000])
        await stream.aclose()
        await stream.aclose()
    assert len(asyncio.all_tasks()) == before
    assert service.sessions == 0


async def test_stopping_flushes_the_finals_of_open_streams(service: TranscriptionService) -> None:
    stream = await service.open(StreamOptions(), source="api")
    events = asyncio.create_task(collect(stream))
    await stream.push(TALK[: 16 * 700])
    await service.stop(5)
    assert finals(await events) == ["3333"]
    with pytest.raises(NotReady, match="stopping"):
        await service.open(StreamOptions(), source="api")


async def test_every_event_is_on_the_hub_too(service: TranscriptionService) -> None:
    viewer = service.hub.subscribe()
    stream = await service.open(StreamOptions(), source="api")
    await stream.push(TALK)
    await stream.finish()
    await collect(stream)
    await stream.wait_finished()
    kinds = []
    async for event in viewer:
        kinds.append(event["type"])
        if event["type"] == "session_closed":
            break
    assert kinds[0] == "session_opened"
    assert kinds.count("VoiceStarted") == kinds.count("VoiceStopped") == 2
    assert kinds[-2] == "StreamFinished"
