"""The microphone's sessions: opened when there is audio, followed in a pause, gaps said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from agent.audio.ring import Ring
from agent.pipeline.microphone_feed import Feed
from agent.pipeline.service import TranscriptionService
from agent.types import SAMPLE_RATE, Int16, StreamOptions
from tests.fakes import fake_models, silence, tone

WAIT_S = 10.0
POLL_S = 0.01


class Fed:
    """A feed that runs, and what the hub was told."""

    def __init__(self, service: TranscriptionService, session_s: float = 3600) -> None:
        self.service = service
        self.ring = Ring(20 * SAMPLE_RATE)
        self.now = 0.0
        self.feed = Feed(service, StreamOptions(), self.ring, session_s, lambda: self.now)
        self.task = asyncio.create_task(self.feed.run())
        self._events = service.hub.subscribe(0)

    def hear(self, samples: Int16) -> None:
        for first in range(0, len(samples), 1600):
            self.ring.push(samples[first : first + 1600])
        self.feed.wake()

    def told(self) -> list[dict[str, Any]]:
        return list(self.service.hub._kept)

    def count(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.told())

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(round(WAIT_S / POLL_S)):
            if true():
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError("the condition never came true")


@pytest_asyncio.fixture
async def fed(service: TranscriptionService) -> AsyncIterator[Fed]:
    made = Fed(service)
    yield made
    made.feed.end()
    await asyncio.wait({made.task}, timeout=WAIT_S)
    await made.feed.stop(WAIT_S)
    assert made.task.done()


async def test_audio_opens_a_session_whose_text_everyone_is_told(fed: Fed) -> None:
    fed.hear(tone(3, 5))
    fed.hear(silence(5))
    await fed.until(lambda: fed.count("Transcript"))
    opened = next(event for event in fed.told() if event["type"] == "session_opened")
    assert (opened["source"], opened["session_id"]) == ("microphone", fed.feed.session_id)


async def test_a_gap_is_said_at_once_and_the_session_goes_on(fed: Fed) -> None:
    fed.hear(tone(3, 5))
    await fed.until(lambda: fed.count("VoiceStarted"))
    fed.ring.skip(8000)
    fed.feed.wake()
    await fed.until(lambda: fed.count("AudioGap"))
    await fed.until(lambda: fed.count("VoiceStopped"))
    assert (fed.feed.gaps, fed.feed.dropped) == (1, 8000)
    fed.hear(tone(4, 5))
    await fed.until(lambda: fed.count("VoiceStarted") == 2)
    assert fed.count("session_opened") == 1


async def test_another_set_of_models_gets_the_next_session_in_a_pause(fed: Fed) -> None:
    fed.hear(tone(3, 5))
    await fed.until(lambda: fed.count("VoiceStarted"))
    first = fed.feed.session_id
    fed.service.use(fake_models())
    fed.now = 5.0
    fed.hear(tone(3, 5))  # somebody still speaks: the session stays
    await fed.until(lambda: not len(fed.ring))
    assert fed.feed.session_id == first
    fed.hear(silence(6))
    await fed.until(lambda: fed.count("VoiceStopped"))
    await asyncio.sleep(0.05)
    fed.now = 10.0
    fed.hear(silence(2))
    await fed.until(lambda: fed.count("session_closed") == 1)
    fed.hear(tone(5, 5))
    await fed.until(lambda: fed.count("session_opened") == 2)
    assert fed.feed.session_id not in (None, first)


async def test_a_session_ends_at_its_length_even_when_nobody_pauses(
    service: TranscriptionService,
) -> None:
    fed = Fed(service, session_s=30)
    fed.hear(tone(3, 5))
    await fed.until(lambda: fed.count("VoiceStarted"))
    for fed.now in (31.0, 95.0):
        fed.hear(tone(3, 2))
        await fed.until(lambda: not len(fed.ring))
    await fed.until(lambda: fed.count("session_closed"))
    fed.feed.end()
    await fed.task
    await fed.feed.stop(WAIT_S)


async def test_without_models_audio_waits_and_the_reason_is_told(fed: Fed) -> None:
    fed.service.unavailable("no model is usable")
    fed.hear(tone(3, 5))
    await fed.until(lambda: fed.feed.waits_for)
    assert (fed.feed.waits_for, fed.feed.dropped) == ("no model is usable", 0)
    fed.service.use(fake_models())
    await fed.until(lambda: fed.count("VoiceStarted"))
    assert fed.feed.waits_for == ""


async def test_a_session_that_fails_is_followed_by_another(fed: Fed) -> None:
    fed.service.use(fake_models(fail_on="333"))
    fed.hear(tone(3, 3))
    fed.hear(silence(5))
    await fed.until(lambda: fed.count("StreamError"))
    for _ in range(3):
        fed.hear(silence(2))
        await asyncio.sleep(0.02)
    fed.hear(tone(5, 5))
    await fed.until(lambda: fed.count("session_opened") == 2)


async def test_the_end_flushes_what_was_said(fed: Fed) -> None:
    fed.hear(tone(3, 5))
    await fed.until(lambda: fed.count("VoiceStarted"))
    fed.feed.end()
    await asyncio.wait_for(fed.task, WAIT_S)
    await fed.feed.stop(WAIT_S)
    assert fed.count("StreamFinished") == 1
    assert fed.count("Transcript") >= 1


async def test_the_microphone_is_never_refused_for_load(service: TranscriptionService) -> None:
    for _ in range(3):
        await service.open(StreamOptions(), source="api")
    fed = Fed(service)
    fed.hear(silence(5))
    await fed.until(lambda: fed.feed.session_id)
    assert service.sessions == 4
    streams = list(service._streams.values())
    await streams[0].aclose()
    await service.open(StreamOptions(), source="api")  # nor does it take the place of a client
    fed.feed.end()
    await fed.task
