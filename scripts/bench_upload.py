"""A long file sent to a running agent: memory, speed, progress, and what is left after a cancel.

    .venv/bin/python scripts/bench_upload.py --url http://127.0.0.1:8080 --minutes 60 CLIP.wav...

Writes a file of so many minutes from the clips (one after the other, a second of silence between),
sends it with `stream=true`, and watches the agent's process and its decoding child. Then it sends
it again and leaves after a few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import psutil
import soundfile

RATE = 16000
MB = 2**20
LOOK_S = 0.05
LOOKS = 600
LEAVE_AFTER_S = 3.0


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--format", default="flac", help="ending that soundfile writes")
    parser.add_argument("clips", nargs="+", type=Path)
    args = parser.parse_args()
    agent = listener(urlsplit(args.url).port or 80)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"long.{args.format}"
        write_long(path, args.clips, args.minutes)
        print(f"{args.minutes:g} minutes of {args.format}, {path.stat().st_size / MB:.1f} MB")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as http:
            await whole(http, args.url, path, agent, args.minutes)
            await left(http, args.url, path, agent)


@dataclass
class Watched:
    """Peaks of resident memory in MB."""

    agent_mb: float = 0.0
    child_mb: float = 0.0

    async def watch(self, agent: psutil.Process) -> None:
        while True:
            self.agent_mb = max(self.agent_mb, agent.memory_info().rss / MB)
            for child in decoders(agent):
                self.child_mb = max(self.child_mb, child.memory_info().rss / MB)
            await asyncio.sleep(LOOK_S)


async def whole(
    http: aiohttp.ClientSession, url: str, path: Path, agent: psutil.Process, minutes: float
) -> None:
    before_mb, watched = agent.memory_info().rss / MB, Watched()
    watching = asyncio.create_task(watched.watch(agent))
    began, first_s, told, deltas, positions = time.perf_counter(), 0.0, 0, 0, []
    async for event in send(http, url, path):
        if "error" in event:
            raise SystemExit(event["error"]["message"])
        if event["type"] == "progress":
            told += 1
            positions.append(event["position"])
        elif event["type"] == "transcript.text.delta":
            deltas += 1
            first_s = first_s or time.perf_counter() - began
    took_s = time.perf_counter() - began
    watching.cancel()
    print(f"read in {took_s:.1f} s, real-time factor {took_s / minutes / 60:.4f}")
    print(f"first text after {first_s:.2f} s, {deltas} deltas")
    rising = positions == sorted(positions)
    print(
        f"progress told {told} times, {'rising' if rising else 'NOT rising'}, last {positions[-1:]}"
    )
    print(
        f"agent {before_mb:.0f} MB before, {watched.agent_mb:.0f} MB at most, "
        f"{agent.memory_info().rss / MB:.0f} MB after; child {watched.child_mb:.0f} MB at most"
    )


async def left(http: aiohttp.ClientSession, url: str, path: Path, agent: psutil.Process) -> None:
    async def take() -> None:
        async for _ in send(http, url, path):
            pass

    taking = asyncio.create_task(take())
    await asyncio.sleep(LEAVE_AFTER_S)
    print(f"before leaving: {await held(http, url, agent)}")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    began = time.perf_counter()
    now = "?"
    for _ in range(LOOKS):
        now = await held(http, url, agent)
        if now == "nothing":
            break
        await asyncio.sleep(LOOK_S)
    print(f"{time.perf_counter() - began:.2f} s after leaving the agent holds: {now}")


async def held(http: aiohttp.ClientSession, url: str, agent: psutil.Process) -> str:
    """What an upload holds, in words."""
    async with http.get(url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    sessions = next(float(x.split()[-1]) for x in lines if x.startswith("funasr_agent_sessions "))
    files = nameless_files(agent)
    found = {"streams": int(sessions), "children": len(decoders(agent)), "files": len(files)}
    return ", ".join(f"{n} {what}" for what, n in found.items() if n) or "nothing"


async def send(http: aiohttp.ClientSession, url: str, path: Path) -> AsyncIterator[Any]:
    """The events of a transcription."""
    form = aiohttp.FormData({"stream": "true", "progress": "true", "model": "whisper-1"})
    with path.open("rb") as file:
        form.add_field("file", file, filename=path.name)
        async with http.post(url + "/v1/audio/transcriptions", data=form) as answer:
            if answer.status != 200:
                raise SystemExit(await answer.text())
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])


def decoders(agent: psutil.Process) -> list[psutil.Process]:
    """The decoding children of the agent."""
    try:
        return [c for c in agent.children() if any("decoder_process" in x for x in c.cmdline())]
    except psutil.NoSuchProcess:
        return []


def nameless_files(agent: psutil.Process) -> list[str]:
    """Files of the agent that no folder lists, as uploads are kept."""
    links = [os.readlink(link) for link in Path(f"/proc/{agent.pid}/fd").iterdir()]
    return [link for link in links if link.endswith("(deleted)")]


def listener(port: int) -> psutil.Process:
    """The process that listens on a port of this machine."""
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
            return psutil.Process(found.pid)
    raise SystemExit(f"nothing listens on port {port} of this machine, or only root can see it")


def write_long(path: Path, clips: list[Path], minutes: float) -> None:
    left = int(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for clip in cycle(clips):
            samples, rate = soundfile.read(clip, dtype="int16")
            if rate != RATE:
                raise SystemExit(f"{clip}: {rate} Hz; give clips of {RATE} Hz")
            samples = np.concatenate([samples, np.zeros(RATE, np.int16)])[:left]
            file.write(samples)
            left -= len(samples)
            if left <= 0:
                return


if __name__ == "__main__":
    asyncio.run(main())
