#!/usr/bin/env python3
"""From a server event to the text in the page's document: p50 and p95 in a real Chromium.

    .venv/bin/python scripts/bench_page.py --events 200 --streams 0 20

Starts a daemon of its own with the embedded models. The browser's microphone plays clips in a
loop; `--streams` others send the same audio in real time. The time of an event is when the daemon
published it, that of its text when a MutationObserver saw it; both by the clock of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import soundfile
from playwright.async_api import Page, async_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.end_to_end.daemon import Daemon  # noqa: E402
from tests.gui_integration.conftest import (  # noqa: E402
    ALLOW_MICROPHONE,
    COMMON_ARGUMENTS,
    find_chromium,
)

RATE = 16000
PAUSE_S = 1.0
CHUNK_S = 0.1
LIMIT_S = 420
Said = tuple[str, str, bool]
"""Segment, text, whether it is final."""
OBSERVE = """
window.seen = [];
new MutationObserver(() => {
  const at = performance.timeOrigin + performance.now();
  for (const row of document.querySelectorAll(".segment")) {
    const text = row.querySelector(".text").textContent;
    if (!text || row.dataset.told === text + row.dataset.final) continue;
    row.dataset.told = text + row.dataset.final;
    window.seen.push([row.dataset.segmentId, text, row.dataset.final === "true", at]);
  }
}).observe(document.getElementById("segments"), { subtree: true, childList: true, characterData: true });
"""  # noqa: E501


def speech(path: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    """All clips with pauses, also written to `path`; int16 [n]."""
    parts = []
    for clip in sorted((ROOT / "tests" / "data" / "clips").glob("*.wav")):
        parts += [soundfile.read(clip, dtype="int16")[0], np.zeros(int(PAUSE_S * RATE), np.int16)]
    samples = np.concatenate(parts)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return samples


async def stream(session: aiohttp.ClientSession, url: str, samples: Any, offset: int) -> None:
    """Another client: the same audio in real time, from another place on, until cancelled."""
    async with session.ws_connect(url + "/api/v1/stream") as socket:
        await socket.send_json({"type": "start", "sample_rate": RATE})
        size, index, begun = int(CHUNK_S * RATE), 0, time.monotonic()
        reader = asyncio.create_task(drain(socket))
        try:
            while True:
                at = (offset + index) % (len(samples) - size)
                chunk = samples[at : at + size].tobytes()
                await socket.send_bytes(index.to_bytes(8, "little") + chunk)
                index += size
                await asyncio.sleep(max(0.0, begun + index / RATE - time.monotonic()))
        finally:
            reader.cancel()


async def drain(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


async def published(session: aiohttp.ClientSession, url: str, times: dict[Said, float]) -> None:
    """Note when the daemon published each text (ms)."""
    async with session.ws_connect(url + "/api/v1/events", max_msg_size=0) as socket:
        async for message in socket:
            event = json.loads(message.data)
            if event["type"] in ("partial", "final") and event["text"]:
                segment = f"{event['session_id']}/{event['segment_id']}"
                key = (segment, event["text"], event["type"] == "final")
                times.setdefault(key, event["time"] * 1000)


async def measure(page: Page, url: str, samples: Any, streams: int, wanted: int) -> list[float]:
    """Latencies in ms of `wanted` events, or of as many as came within the limit."""
    times: dict[Said, float] = {}
    sockets = url.replace("http", "ws")
    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.create_task(published(session, sockets, times))]
        tasks += [
            asyncio.create_task(stream(session, sockets, samples, 7919 * i * 20))
            for i in range(streams)
        ]
        await page.goto(url)
        await page.wait_for_selector('body[data-state="idle"]')
        await page.evaluate(OBSERVE)
        await page.click("#talk")
        deadline = time.monotonic() + LIMIT_S
        found: list[float] = []
        while len(found) < wanted and time.monotonic() < deadline:
            await asyncio.sleep(2)
            seen = await page.evaluate("window.seen")
            found = [at - times[key] for *said, at in seen if (key := tuple(said)) in times]
        await page.click("#talk")
        await page.wait_for_selector('body[data-state="idle"]', timeout=60_000)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found[:wanted]


async def run(url: str, wav: Path, samples: Any, arguments: argparse.Namespace) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(),
            args=[
                *COMMON_ARGUMENTS,
                ALLOW_MICROPHONE,
                f"--use-file-for-fake-audio-capture={wav}",
            ],
        )
        for streams in arguments.streams:
            page = await (await browser.new_context()).new_page()
            found = sorted(await measure(page, url, samples, streams, arguments.events))
            await page.close()
            if not found:
                raise SystemExit("no text reached the page")
            p95 = found[int(0.95 * (len(found) - 1))]
            print(
                f"{streams:3} other streams: {len(found)} events, p50 "
                f"{statistics.median(found):.1f} ms, p95 {p95:.1f} ms, most {found[-1]:.1f} ms",
                flush=True,
            )
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--streams", type=int, nargs="+", default=[0, 20])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        samples = speech(wav)
        state = Path(folder) / "state"
        state.mkdir()
        with Daemon(state) as daemon:
            asyncio.run(run(daemon.url, wav, samples, arguments))


if __name__ == "__main__":
    main()
