"""Sessions opened and dropped at random points leave nothing behind."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import pytest
import soundfile

from tests.end_to_end.daemon import Daemon

RATE = 16000
WARM_UP = 600
"""Until the allocator has what so many streams at once need of it."""
GROUP = 10


async def drop_sessions(url: str, audio: np.ndarray, count: int, seed: int) -> None:
    """Open `count` sessions over both protocols, each dropped somewhere without a goodbye."""
    random_source = random.Random(seed)
    async with aiohttp.ClientSession() as http:
        for first in range(0, count, GROUP):
            group = range(first, min(first + GROUP, count))
            await asyncio.gather(*(drop_one(http, url, audio, random_source) for _ in group))
            await few_left(http, url)


async def few_left(http: aiohttp.ClientSession, url: str) -> None:
    """Wait until dropped sessions have mostly ended, so that every group meets the same box."""
    for _ in range(600):
        async with http.get(url + "/api/v1/status") as answer:
            if (await answer.json())["sessions"]["open"] < GROUP:
                return
        await asyncio.sleep(0.05)
    raise AssertionError("sessions stay open")


async def drop_one(
    http: aiohttp.ClientSession, url: str, audio: np.ndarray, random_source: random.Random
) -> None:
    resumable = random_source.random() < 0.5
    socket = await http.ws_connect(url + ("/api/v1/stream" if resumable else "/ws"))
    if random_source.random() < 0.95:
        if resumable:
            await socket.send_json({"type": "start", "sample_rate": RATE, "mode": "2pass"})
            assert (await socket.receive_json(timeout=10))["type"] == "started"
        else:
            await socket.send_json({"mode": "2pass", "is_speaking": True, "wav_name": "x"})
        for i in range(0, random_source.randrange(len(audio)), 3200):
            data = audio[i : i + 3200].tobytes()
            await socket.send_bytes(struct.pack("<Q", i) + data if resumable else data)
        await asyncio.sleep(random_source.random() * 0.05)
    assert socket._response.connection is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]


def measure(process: psutil.Process) -> tuple[int, int, float]:
    return process.num_threads(), process.num_fds(), process.memory_info().rss / 2**20


def tasks(daemon: Daemon) -> int:
    text = daemon.get("/metrics")[1]
    line = next(row for row in text.splitlines() if row.startswith("funasr_agent_tasks "))
    return int(float(line.split()[1]))


def settle(daemon: Daemon) -> None:
    """Wait until every session has ended."""
    for _ in range(200):
        if daemon.get("/api/v1/status")[1]["sessions"]["open"] == 0:
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise AssertionError("sessions stay open")


@pytest.mark.parametrize(
    "count", [40, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_dropped_sessions_leave_no_threads_tasks_or_descriptors(
    root: Path, tmp_path: Path, count: int
) -> None:
    clips = sorted((root / "tests/data/clips").glob("*.wav"))
    audio = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips[:3]])
    with Daemon(tmp_path, "stream.resume_s=0.2") as daemon:
        process = psutil.Process(daemon.pid)
        asyncio.run(drop_sessions(daemon.url, audio, WARM_UP if count >= 500 else count, seed=0))
        settle(daemon)
        before, tasks_before = measure(process), tasks(daemon)
        asyncio.run(drop_sessions(daemon.url, audio, count, seed=1))
        settle(daemon)
        after, tasks_after = measure(process), tasks(daemon)
        assert daemon.get("/health")[0] == 200
    slope = (after[2] - before[2]) * 100 / count
    print(
        f"\n{count} sessions: threads {before[0]} -> {after[0]}, fds {before[1]} -> {after[1]}, "
        f"tasks {tasks_before} -> {tasks_after}, {slope:+.2f} MB per 100 sessions"
    )
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert tasks_after <= tasks_before
    if count >= 500:
        assert slope <= 1.0
