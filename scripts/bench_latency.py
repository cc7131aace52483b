"""Latency of live partials and finals against a running agent.

    .venv/bin/python scripts/bench_latency.py --url http://127.0.0.1:8080 CLIP.wav...

Sends each clip in real time as 100 ms chunks over /api/v1/stream and prints, for partials and
finals, the time from sending the last sample that the event needs to its arrival. A partial
needs the audio up to its `end_ms`, or, when the end of speech made it, the silence that said so; a
final needs that silence too: there the clock starts at the chunk that brought `voice_stopped`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import time
from pathlib import Path

import aiohttp
import numpy as np
import soundfile

RATE = 16000
CHUNK = RATE // 10
TAIL_S = 1.5
CLOSING_S = 0.02
"""A partial so shortly before `voice_stopped` is the flush of its segment."""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("clips", nargs="+", type=Path)
    args = parser.parse_args()
    late: dict[str, list[float]] = {"partial": [], "final": []}
    async with aiohttp.ClientSession() as http:
        for _ in range(args.rounds):
            for clip in args.clips:
                await one_clip(http, args.url, clip, late)
    for kind, values in late.items():
        if values:
            ms = np.array(values) * 1000
            print(
                f"{kind}: n {len(ms)}, median {np.median(ms):.1f} ms, "
                f"p95 {np.percentile(ms, 95):.1f} ms, max {ms.max():.1f} ms"
            )


async def one_clip(
    http: aiohttp.ClientSession, url: str, clip: Path, late: dict[str, list[float]]
) -> None:
    samples, rate = soundfile.read(clip, dtype="int16")
    if rate != RATE:
        raise SystemExit(f"{clip}: {rate} Hz; give clips of {RATE} Hz")
    samples = np.concatenate([np.zeros(CHUNK * 3, np.int16), samples])
    samples = np.concatenate([samples, np.zeros(int(RATE * TAIL_S), np.int16)])
    sent: dict[int, float] = {}
    stopped_at: dict[int, float] = {}
    async with http.ws_connect(url + "/api/v1/stream") as socket:
        await socket.send_json({"type": "start", "sample_rate": RATE, "mode": "2pass"})
        reader = asyncio.create_task(read(socket, sent, stopped_at, late))
        began = time.perf_counter()
        for i in range(0, len(samples) - CHUNK + 1, CHUNK):
            due = began + (i + CHUNK) / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent[(i + CHUNK) * 1000 // RATE] = time.perf_counter()
            await socket.send_bytes(struct.pack("<Q", i) + samples[i : i + CHUNK].tobytes())
        await socket.send_json({"type": "stop"})
        await reader


async def read(
    socket: aiohttp.ClientWebSocketResponse,
    sent: dict[int, float],
    stopped_at: dict[int, float],
    late: dict[str, list[float]],
) -> None:
    waiting: tuple[float, float] | None = None
    """Arrival of the newest partial, and when the audio up to its end had been sent."""
    async for message in socket:
        event, now = json.loads(message.data), time.perf_counter()
        if event["type"] == "ack":
            continue
        if waiting is not None:
            arrival, needed_at = waiting
            closes = event["type"] == "voice_stopped" and now - arrival < CLOSING_S
            late["partial"].append(arrival - (max(sent.values()) if closes else needed_at))
            waiting = None
        if event["type"] == "partial":
            needed = min((ms for ms in sent if ms >= event["end_ms"]), default=None)
            if needed is not None:
                waiting = now, sent[needed]
        elif event["type"] == "voice_stopped":
            stopped_at[event["segment_id"]] = max(sent.values())
        elif event["type"] == "final" and event["segment_id"] in stopped_at:
            late["final"].append(now - stopped_at[event["segment_id"]])
        elif event["type"] in ("stopped", "error"):
            return


if __name__ == "__main__":
    asyncio.run(main())
