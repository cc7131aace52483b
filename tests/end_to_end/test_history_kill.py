"""A final that was shown survives kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import soundfile

from tests.end_to_end.daemon import Daemon

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"


async def shown_then_killed(daemon: Daemon) -> str:
    """Text of a final at the moment that a client got it; the daemon is dead when it returns."""
    samples, _ = soundfile.read(CLIPS / "zh-2.wav", dtype="int16")
    url = daemon.url.replace("http", "ws") + "/api/v1/stream"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"type": "start", "sample_rate": 16000})
        await socket.send_bytes((0).to_bytes(8, "little") + samples.tobytes())
        silent = bytes(2 * 16000 * 3)
        await socket.send_bytes(len(samples).to_bytes(8, "little") + silent)
        async for message in socket:
            event = json.loads(message.data)
            if event["type"] == "final" and event["text"]:
                os.kill(daemon.pid, signal.SIGKILL)
                return str(event["text"])
    raise AssertionError("no final came")


def test_a_shown_final_survives_kill_9(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        text = asyncio.run(shown_then_killed(daemon))
        assert daemon.stop() == -signal.SIGKILL
    with Daemon(tmp_path, ready=False) as again:
        status, body = again.get("/api/v1/transcripts")
    assert status == 200
    assert [row["text"] for row in body["transcripts"]] == [text]
