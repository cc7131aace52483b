"""Clients that send anything at any time: the daemon serves on, quietly, and stops when told."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.end_to_end.daemon import Daemon

PATHS = ("/", "/ws", "/api/v1/stream", "/api/v1/events")
KEYS = [
    "mode",
    "chunk_size",
    "wav_name",
    "wav_format",
    "audio_fs",
    "hotwords",
    "itn",
    "svs_lang",
    "svs_itn",
    "is_speaking",
    "is_finished",
    "is_end",
    "type",
    "sample_rate",
    "resume_id",
    "received_seq",
    "t",
    "language",
]
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1e308,
    float("nan"),
    float("inf"),
    2**70,
    "",
    "x" * 5000,
    "5,10,5",
    "\ud800",
    "pcm",
    "mp3",
    "2pass",
    "offline",
    "online",
    [],
    [5, 10, 5],
    [[]],
    {},
    '{"a":1}',
    16000,
    8000.0,
)
SIZES = (0, 1, 3, 8, 9, 100, 1920, 1921, 100_000)


class Hostile:
    """Makes connections and messages at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    async def crowd(self, url: str, groups: int, size: int) -> None:
        async with aiohttp.ClientSession() as http:
            for _ in range(groups):
                await asyncio.gather(*(self._client(http, url) for _ in range(size)))

    async def _client(self, http: aiohttp.ClientSession, url: str) -> None:
        path = self._random.choice(PATHS)
        try:
            async with http.ws_connect(url + path) as socket:
                for _ in range(self._random.randint(1, 8)):
                    message = self._message(path)
                    if isinstance(message, str):
                        await socket.send_str(message)
                    else:
                        await socket.send_bytes(message)
                await socket.receive(timeout=0.2)
        except (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError):
            return  # the daemon may refuse such a client at any point

    def _message(self, path: str) -> str | bytes:
        kind = self._random.random()
        if kind < 0.45:
            count = self._random.randint(0, 5)
            fields = {self._random.choice(KEYS): self._random.choice(VALUES) for _ in range(count)}
            if path.endswith("stream") and self._random.random() < 0.7:
                fields["type"] = self._random.choice(("start", "stop", "ping"))
            return json.dumps(fields)
        if kind < 0.5:
            return self._random.choice(("", "[]", "null", '{"a":', "\0", "[" * 3000))
        data = self._random.randbytes(self._random.choice(SIZES))
        if path.endswith("stream") and self._random.random() < 0.7:
            data = struct.pack("<Q", self._random.choice((0, 100, 2**40, 2**60))) + data
        return b"RIFF" + data if self._random.random() < 0.1 else data


@pytest.mark.parametrize("seed", [2, 3])
def test_the_daemon_serves_on_and_stops_at_once(tmp_path: Path, seed: int) -> None:
    with Daemon(tmp_path, "stream.resume_s=0.2") as daemon:
        asyncio.run(Hostile(seed).crowd(daemon.url, groups=30, size=10))
        assert daemon.get("/health")[0] == 200
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()
