"""An hour of streamed speech with the embedded models: memory and cost stay level."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
import soundfile

from agent.assembly import model_store, session_settings
from agent.config import Config
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.service import Limits, LiveStream, TranscriptionService
from agent.protocols.events import describe
from agent.types import SAMPLE_RATE, Int16, StreamFinished, StreamOptions, Transcript

MINUTES = 60
STREAMS = 4
"""They share the hour, so that runs are shared too."""
CHUNK = SAMPLE_RATE // 10
WARM = 10
"""Minutes after which memory must be level."""
MOST_GROWTH_MB = 6.0
MOST_SLOWER = 1.25

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[TranscriptionService]:
    config = Config.model_validate({"state_dir": tmp_path})
    loaded = await asyncio.to_thread(model_store(config).load_all)
    online, offline = Lane("online", 64, workers=2, batch=8), Lane("offline", 64, nice=5)
    online.start()
    offline.start()
    made = TranscriptionService(
        online, offline, Hub(2000, 500), Limits(), session_settings(config), describe
    )
    made.use(await made.prepare(loaded.model_set()))
    yield made
    await made.stop(10)
    assert await online.close(10)
    assert await offline.close(10)


def speech(root: Path) -> Int16:
    """About a minute: the golden clips of the embedded models with silence between them."""
    clips = [
        soundfile.read(path, dtype="int16")[0]
        for path in sorted((root / "models").glob("builtin-*/golden.wav"))
    ]
    round_of = np.concatenate([np.concatenate([clip, np.zeros(16000, np.int16)]) for clip in clips])
    return np.resize(round_of, 60 * SAMPLE_RATE)


async def test_an_hour_of_speech_leaves_memory_and_cost_where_they_were(
    service: TranscriptionService, root: Path, record_property: Any
) -> None:
    process, minute = psutil.Process(), speech(root)
    memory_mb: list[float] = []
    cpu_s: list[float] = []
    texts: list[int] = []
    streams = [await service.open(StreamOptions(), source="api") for _ in range(STREAMS)]
    readers = [asyncio.create_task(_read(stream, texts)) for stream in streams]
    for _ in range(MINUTES // STREAMS):
        started = time.process_time()
        await asyncio.gather(*(_push(stream, minute) for stream in streams))
        cpu_s.append((time.process_time() - started) / STREAMS)
        gc.collect()
        memory_mb.append(process.memory_info().rss / 2**20)
    for stream in streams:
        await stream.finish()
    finished = await asyncio.gather(*readers)
    quarter = max(1, len(cpu_s) // 4)
    early, late = statistics.median(cpu_s[1 : 1 + quarter]), statistics.median(cpu_s[-quarter:])
    warm = memory_mb[WARM // STREAMS :]
    slope = float(np.polyfit(np.arange(len(warm)) * STREAMS, warm, 1)[0]) * 60
    report = (
        f"memory {warm[0]:.1f} -> {warm[-1]:.1f} MB ({slope:+.2f} MB an hour), "
        f"a minute of speech {early:.2f} -> {late:.2f} s of CPU, {len(texts)} finals"
    )
    record_property("soak", report)
    print(report)
    assert all(ms == 60_000 * (MINUTES // STREAMS) for ms in finished)
    assert len(texts) > MINUTES
    assert warm[-1] - warm[0] < MOST_GROWTH_MB, memory_mb
    assert late < early * MOST_SLOWER, cpu_s


async def _push(stream: LiveStream, minute: Int16) -> None:
    for first in range(0, len(minute), CHUNK):
        await stream.push(minute[first : first + CHUNK])


async def _read(stream: LiveStream, texts: list[int]) -> int:
    """The stream's length in ms; notes the length of each final."""
    duration_ms = 0
    async for event in stream:
        if isinstance(event, Transcript) and event.is_final:
            texts.append(len(event.text))
        elif isinstance(event, StreamFinished):
            duration_ms = event.duration_ms
    return duration_ms
