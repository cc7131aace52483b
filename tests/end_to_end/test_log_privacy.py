"""What is said near the box stays out of its log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import soundfile

from tests.end_to_end.daemon import Daemon
from tests.end_to_end.test_daemon import CLIP, funasr, own_transcript

SECRET = "绝密的热词"


async def upload(url: str, clip: bytes) -> str:
    form = aiohttp.FormData()
    form.add_field("file", clip, filename="private-meeting.wav")
    form.add_field("prompt", SECRET)
    async with aiohttp.ClientSession() as http:
        answer = await http.post(f"{url}/v1/audio/transcriptions", data=form)
        return str((await answer.json())["text"])


async def live(url: str, clip: Path) -> list[dict[str, Any]]:
    """The page's way, with hotwords."""
    data = soundfile.read(clip, dtype="int16")[0].tobytes()
    got = []
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/api/v1/stream") as stream:
        start = {"type": "start", "sample_rate": 16000, "hotwords": SECRET}
        await stream.send_json(start)
        await stream.send_bytes((0).to_bytes(8, "little") + data)
        await stream.send_json({"type": "stop"})
        async for message in stream:
            got.append(message.json())
    return got


def test_the_log_names_sessions_and_has_no_word_of_a_transcript(root: Path, tmp_path: Path) -> None:
    clip = root / CLIP
    said = own_transcript(root, clip)
    assert len(said) >= 4
    with Daemon(tmp_path, "logging.format=ecs") as daemon:
        for mode in ("2pass", "offline", "online"):
            assert asyncio.run(funasr(daemon.url, clip, mode))
        assert asyncio.run(upload(daemon.url, clip.read_bytes())) == said
        events = asyncio.run(live(daemon.url, clip))
        assert said in json.dumps(events, ensure_ascii=False)
        daemon.stop()
        lines = [json.loads(line) for line in daemon.log().splitlines()]
    written = json.dumps(lines, ensure_ascii=False)
    for i in range(len(said) - 1):
        assert said[i : i + 2] not in written
    assert SECRET not in written

    session = next(event["session_id"] for event in events if event["type"] == "started")
    told = [line["message"] for line in lines if line.get("session_id") == session]
    assert told[0].startswith("stream opened: page, mode ")
    assert told[-1] == "stream closed: page"
    assert any("hotwords" in text for text in told)
    opened = [line for line in lines if line["message"].startswith("stream opened")]
    assert len({line["session_id"] for line in opened}) == len(opened) == 5
