"""Many live streams at once: shared runs, order, admission."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from agent.engine.session import Session, SessionSettings
from agent.engine.together import Together, alone
from agent.errors import InferenceError, Overloaded
from agent.pipeline.admission import LoadLimits, Step
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.service import Limits, LiveStream, TranscriptionService
from agent.types import (
    Int16,
    ModelSet,
    Recognition,
    RecognitionMode,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
)
from tests.fakes import (
    HOP,
    FakeOnline,
    FakeOnlineStream,
    FakeVad,
    fake_models,
    read_digits,
    silence,
    tone,
)
from tests.unit.pipeline.conftest import describe

ONLINE = StreamOptions(mode=RecognitionMode.ONLINE)


class SharingOnline(FakeOnline):
    """Reads digits as the fake does, through runs that can be shared."""

    def __init__(self, proven: int = 4, together: Together = alone) -> None:
        self.proven = proven
        self.together = together
        self.batches: list[int] = []
        self.fails_for = ""

    def proven_batch(self, most: int) -> int:
        if self.proven == 0:
            raise InferenceError("the batch axis is fixed")
        return min(self.proven, most)

    def sharing(self, together: Together) -> SharingOnline:
        made = SharingOnline(self.proven, together)
        made.batches = self.batches
        made.fails_for = self.fails_for
        return made

    def start_stream(self, options: StreamOptions) -> SharingStream:
        return SharingStream(self)

    def run(self, items: Sequence[Int16]) -> list[str]:
        self.batches.append(len(items))
        read = [read_digits(item) for item in items]
        if self.fails_for and any(self.fails_for in text for text in read):
            raise RuntimeError("the graph broke")
        return read


class SharingStream(FakeOnlineStream):
    def __init__(self, model: SharingOnline) -> None:
        super().__init__()
        self._model = model

    def accept(self, samples: Int16) -> Recognition | None:
        if super().accept(samples) is None:
            return None
        heard = np.concatenate(self._heard)[: self._decided * 2 * HOP]
        model = self._model
        return Recognition(model.together((model, "encoder", 1), model.run, heard))


def models(online: SharingOnline) -> ModelSet:
    return ModelSet(vad=FakeVad(), online=online, offline=fake_models().offline)


@pytest_asyncio.fixture
async def busy() -> AsyncIterator[TranscriptionService]:
    """A service with two workers and shared runs."""
    online, offline = Lane("online", 64, workers=2, batch=4), Lane("offline", 8, nice=5)
    online.start()
    offline.start()
    made = TranscriptionService(
        online,
        offline,
        Hub(1000, 100),
        Limits(max_sessions=40, load=LoadLimits(max_load=0.9, late_ms=1e6)),
        SessionSettings(),
        describe,
    )
    yield made
    await asyncio.wait_for(made.stop(5), 20)
    assert await online.close(5)
    assert await offline.close(5)


def talk(i: int) -> Int16:
    words = [np.concatenate([tone(1 + (i + k) % 9, 3 + k), silence(4)]) for k in range(3)]
    return np.concatenate([silence(2), *words])


async def read(stream: LiveStream, audio: Int16) -> list[StreamEvent]:
    async def send() -> None:
        for first in range(0, len(audio), HOP):
            await stream.push(audio[first : first + HOP])
            await asyncio.sleep(0)
        await stream.finish()

    sending = asyncio.create_task(send())
    events = [event async for event in stream]
    await sending
    return events


def finals(events: Sequence[Any]) -> list[str]:
    return [e.text for e in events if isinstance(e, Transcript) and e.is_final]


def alone_finals(audio: Int16) -> list[str]:
    session = Session(fake_models(offline=False), ONLINE)
    return finals([*session.accept(audio), *session.finish()])


async def test_streams_that_share_runs_read_what_they_read_alone(
    busy: TranscriptionService,
) -> None:
    online = SharingOnline()
    busy.use(await busy.prepare(models(online)))
    streams = [await busy.open(ONLINE, source="api") for _ in range(20)]
    events = await asyncio.gather(*(read(s, talk(i)) for i, s in enumerate(streams)))
    for i, got in enumerate(events):
        assert finals(got) == alone_finals(talk(i))
        assert isinstance(got[-1], StreamFinished)
        ids = [e.segment_id for e in got if isinstance(e, Transcript)]
        assert ids == sorted(ids)
    assert max(online.batches) > 1
    assert max(online.batches) <= 4
    assert busy.online.totals.items == sum(online.batches)


@pytest.mark.parametrize("proven", [1, 0])
async def test_runs_that_are_not_proven_exact_are_not_shared(
    busy: TranscriptionService, proven: int
) -> None:
    online = SharingOnline(proven)
    busy.use(await busy.prepare(models(online)))
    assert busy.load.batch == 1
    streams = [await busy.open(ONLINE, source="api") for _ in range(8)]
    events = await asyncio.gather(*(read(s, talk(i)) for i, s in enumerate(streams)))
    assert [finals(got) for got in events] == [alone_finals(talk(i)) for i in range(8)]
    assert set(online.batches) == {1}


async def test_a_failing_run_ends_its_own_stream_only(busy: TranscriptionService) -> None:
    online = SharingOnline()
    online.fails_for = "9"
    busy.use(await busy.prepare(models(online)))
    streams = [await busy.open(ONLINE, source="api") for _ in range(6)]
    audio = [np.concatenate([silence(2), tone(9 if i == 3 else 2, 6)]) for i in range(6)]
    events = await asyncio.gather(
        *(read(s, a) for s, a in zip(streams, audio, strict=True)), return_exceptions=True
    )
    texts = [finals(got) for got in events if not isinstance(got, BaseException)]
    assert texts.count(["222222"]) == 5


async def test_a_refused_stream_is_told_when_to_come_back_and_leaves_nothing(
    busy: TranscriptionService,
) -> None:
    busy.use(await busy.prepare(models(SharingOnline(1))))
    for _ in range(50):
        busy.load.ran("encoder", 1, 0.5)
    opened = [await busy.open(ONLINE, source="api") for _ in range(2)]
    with pytest.raises(Overloaded, match="make the others late") as refused:
        await busy.open(ONLINE, source="api")
    assert busy.sessions == 2
    assert refused.value.retry_after >= 2
    for stream in opened:
        await stream.aclose()
    await (await busy.open(ONLINE, source="api")).aclose()


async def test_files_are_taken_however_busy_the_live_streams_are(
    busy: TranscriptionService,
) -> None:
    busy.use(await busy.prepare(models(SharingOnline(1))))
    await busy.open(ONLINE, source="api")
    for _ in range(50):
        busy.load.ran("encoder", 1, 5.0)
    with pytest.raises(Overloaded):
        await busy.open(ONLINE, source="api")
    file = await busy.open(StreamOptions(mode=RecognitionMode.OFFLINE), source="file")
    assert finals(await read(file, talk(1))) == ["222", "3333", "44444"]


async def test_a_degraded_stream_says_so_and_so_does_the_hub(busy: TranscriptionService) -> None:
    busy.use(await busy.prepare(models(SharingOnline(1))))
    viewer = busy.hub.subscribe()
    await busy.open(StreamOptions(), source="api")
    for _ in range(50):
        busy.load.ran("encoder", 1, 0.42)  # 0.7 of a core for each; two are 78 % of the limit
    second = await busy.open(StreamOptions(), source="api")
    assert second.mode is RecognitionMode.ONLINE
    assert second.degraded[0].startswith("no second pass")
    assert busy.judge_load() is Step.NOTHING  # a third would be one too many
    said = []
    async for event in viewer:
        said.append(event)
        if len(said) == 4:
            break
    assert [event["type"] for event in said] == [
        "session_opened",
        "load",
        "session_opened",
        "load",
    ]
    assert said[1]["step"] == "one_pass"
    assert said[2]["degraded"] == list(second.degraded)
    assert said[3]["step"] == "nothing"


async def test_a_live_stream_goes_before_a_file(busy: TranscriptionService) -> None:
    """Both lanes are held; what was queued last, for the live stream, is done first."""
    order: list[str] = []

    class Slow(FakeVad):
        def __init__(self, name: str) -> None:
            self.name = name

        def start_stream(self) -> Any:
            made = super().start_stream()
            accept = made.accept

            def noted(samples: Int16) -> Any:
                order.append(self.name)
                return accept(samples)

            made.accept = noted  # type: ignore[method-assign]
            return made

    gate = threading.Event()
    held = [asyncio.create_task(busy.online.run(lambda: gate.wait(10))) for _ in range(2)]
    busy.use(ModelSet(vad=Slow("file"), offline=fake_models().offline))
    file = await busy.open(StreamOptions(), source="file")
    await file.push(tone(1, 1))
    await asyncio.sleep(0.02)
    busy.use(ModelSet(vad=Slow("live"), offline=fake_models().offline))
    live = await busy.open(StreamOptions(), source="api")
    await live.push(tone(1, 1))
    await asyncio.sleep(0.02)
    gate.set()
    await asyncio.gather(*held)
    await live.finish()
    await file.finish()
    await asyncio.gather(live.wait_finished(), file.wait_finished())
    assert order[0] == "live"


async def test_audio_too_short_to_decide_anything_makes_no_job(
    busy: TranscriptionService,
) -> None:
    busy.use(fake_models())
    stream = await busy.open(ONLINE, source="api")
    done = busy.online.totals.busy_s
    for _ in range(4):
        await stream.push(np.zeros(HOP // 5, np.int16))
        await asyncio.sleep(0.005)
    assert busy.online.totals.busy_s == done
    await stream.push(np.zeros(HOP // 5, np.int16))
    await stream.finish()
    assert isinstance((await read(stream, np.zeros(0, np.int16)))[-1], StreamFinished)
