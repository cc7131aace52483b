"""How many live streams a server holds: real-time clients against it, and how late its words are.

    python benchmarks/streams.py ws://127.0.0.1:8080 --audio speech.wav --streams 12 24 36 --pid 123

Every client sends the same recording from another place in it, in real time, as a microphone does:
chunk j (from 0) goes out at start + (j + 1) * chunk. A result is late by its arrival minus the
sending of the chunk that completed the audio it needs. Which audio that is, each protocol tells in
its own way:

    agent   /api/v1/stream: a partial says how far it has read (`end_ms`), a final where speech
            ended
    funasr  FunASR's WebSocket protocol: partial k of a stream needs (k + 1) hops of audio. A
            server that begins its hops anew where speech starts or ends can't be placed so:
            measure it with --calibrate N, which first runs every place of the recording, N at
            once (as few as it takes easily), and takes the chunk before each arrival there for
            what the partial needs
    sherpa  sherpa-onnx's streaming server, with --lookahead-ms for what it needs beyond a hop

`in time` is said of a run in which every stream ended without an error and 99 of 100 partials came
within one hop. Clients and server share the machine, as they must where there is only one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import ssl
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stream_protocols import PROTOCOLS, RATE, Outcome, Plan

PLACES = 8
"""Places of the recording that streams begin at, evenly spread."""
MAX_STREAMS = 128
MAX_SECONDS = 300.0
LEAD_S = 1.0
"""From opening the sockets to the first chunk."""


class Server:
    """CPU time and memory of the server's process and its children."""

    def __init__(self, pid: int | None) -> None:
        self._process = psutil.Process(pid) if pid else None
        self.peak_mb = 0.0

    def cpu_s(self) -> float:
        """CPU seconds so far; notes the memory too."""
        if self._process is None:
            return math.nan
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise SystemExit(f"the server (process {self._process.pid}) has ended") from None
        seconds = mb = 0.0
        for process in family:
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.NoSuchProcess:
                continue
            seconds += times.user + times.system
            mb += memory.rss / 2**20
        self.peak_mb = max(self.peak_mb, mb)
        return seconds


async def one_stream(plan: Plan, place: int, audio: np.ndarray, start: float) -> Outcome:
    """Send one stream and note what comes back; never raises for what the server does."""
    outcome = Outcome(place)
    protocol = PROTOCOLS[plan.protocol](plan)
    secure = None
    if plan.url.startswith("wss"):
        secure = ssl.create_default_context()
        secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                plan.url.rstrip("/") + protocol.path,
                protocols=protocol.subprotocols,
                ssl=secure if secure is not None else True,
                max_msg_size=0,
            ) as ws,
        ):
            await asyncio.sleep(start - time.monotonic())
            for text in protocol.hello(f"stream-{place}"):
                await ws.send_str(text)
            listener = asyncio.create_task(_listen(ws, protocol, start, outcome))
            await _speak(ws, protocol, plan, audio, start, outcome)
            done_at = time.monotonic()
            last = await asyncio.wait_for(listener, plan.drain_s)
            outcome.end_delay = last - done_at
    except (OSError, aiohttp.ClientError, TimeoutError, asyncio.TimeoutError) as error:
        outcome.problem = outcome.problem or f"{type(error).__name__}: {error}"
    return outcome


async def _speak(
    ws: aiohttp.ClientWebSocketResponse,
    protocol: Any,
    plan: Plan,
    audio: np.ndarray,
    start: float,
    outcome: Outcome,
) -> None:
    size = round(plan.chunk_s * RATE)
    for j in range(len(audio) // size):
        due = start + (j + 1) * plan.chunk_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        outcome.behind.append(time.monotonic() - due)
        await ws.send_bytes(protocol.frame(j * size, audio[j * size : (j + 1) * size]))
    await ws.send_str(protocol.bye())


async def _listen(
    ws: aiohttp.ClientWebSocketResponse, protocol: Any, start: float, outcome: Outcome
) -> float:
    """The time of the last message."""
    async for message in ws:
        now = time.monotonic()
        if message.type is aiohttp.WSMsgType.TEXT and protocol.take(
            message.data, now - start, outcome
        ):
            return now
    if ws.close_code not in (None, 1000):
        outcome.problem = outcome.problem or f"closed with {ws.close_code}"
    return time.monotonic()


def grid(plan: Plan) -> list[float]:
    """When the audio of each partial of a stream has been sent, for hops from its start on."""
    due = []
    for k in range(1, int(plan.seconds / plan.hop_s) + 1):
        needed = k * plan.hop_s + plan.lookahead_s
        sent = math.ceil(needed / plan.chunk_s - 1e-6) * plan.chunk_s
        if sent <= plan.seconds + 1e-6:
            due.append(sent)
    return due


def lateness(plan: Plan, outcome: Outcome, due: list[float] | None) -> list[tuple[float, float]]:
    """(when it was due, seconds late) of each partial.

    Where fewer came than were due, the last came for the last: the earliest due that is possible
    for each would flatter the server.
    """
    if plan.protocol == "agent":
        return [
            (sent, at - sent)
            for at, read in outcome.partials
            if read is not None
            for sent in [math.ceil(read / plan.chunk_s - 1e-6) * plan.chunk_s]
        ]
    due = grid(plan) if due is None else due
    arrivals = [at for at, _ in outcome.partials]
    pairs = []
    k = len(due)
    for n in range(min(len(arrivals), len(due)), 0, -1):
        k -= 1
        while k > n - 1 and due[k] > arrivals[n - 1]:
            k -= 1
        pairs.append((due[k], arrivals[n - 1] - due[k]))
    return pairs[::-1]


async def run(
    plan: Plan, audio: np.ndarray, server: Server, due: dict[int, list[float]]
) -> dict[str, Any]:
    """One run; its figures."""
    first = time.monotonic() + LEAD_S
    starts = [first + offset for offset in plan.starts]
    tasks = []
    for i, start in enumerate(starts):
        place = i % PLACES
        piece = _cut(audio, place, plan.seconds)
        tasks.append(asyncio.create_task(one_stream(plan, place, piece, start)))
    opened, closed = starts[-1], first + plan.seconds
    await asyncio.sleep(opened - time.monotonic())
    cpu, own = server.cpu_s(), time.process_time()
    while (left := closed - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 1.0))
        server.cpu_s()
    cpu, own = server.cpu_s() - cpu, time.process_time() - own
    outcomes = await asyncio.gather(*tasks)
    late, counted = [], []
    for outcome, start in zip(outcomes, starts, strict=True):
        pairs = lateness(plan, outcome, due.get(outcome.place))
        counted.append(len(pairs))
        late += [value for sent, value in pairs if opened <= start + sent <= closed]
    return _figures(plan, outcomes, late, counted, cpu / (closed - opened), own / (closed - opened))


def _figures(
    plan: Plan,
    outcomes: list[Outcome],
    late: list[float],
    counted: list[int],
    cores: float,
    own_cores: float,
) -> dict[str, Any]:
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    partials = _spread(late)
    spoken = [final for outcome in outcomes for final in outcome.finals]
    ended = all(outcome.end_delay is not None for outcome in outcomes)
    in_time = bool(ended and not problems and partials and partials["p99"] <= plan.hop_s * 1000)
    return {
        "streams": plan.streams,
        "starts": "in phase" if plan.in_phase else "spread",
        "mode": plan.mode,
        "partial_ms": partials,
        "partials_a_stream": [min(counted), max(counted)],
        "final_after_speech_ms": _spread([at - end for at, end, _ in spoken]),
        "final_after_decision_ms": _spread([at - told for at, _, told in spoken]),
        "end_ms": _spread([o.end_delay for o in outcomes if o.end_delay is not None]),
        "in_time": in_time,
        "problems": len(problems),
        "problem": problems[0] if problems else None,
        "server_cores": round(cores, 3),
        "server_cpu_ms_a_hop": round(cores * plan.hop_s / plan.streams * 1000, 2),
        "client_cores": round(own_cores, 3),
        "client_behind_ms": _spread([late for outcome in outcomes for late in outcome.behind]),
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    ms = np.asarray(values) * 1000
    found = {f"p{p}": round(float(np.percentile(ms, p)), 1) for p in (50, 95, 99)}
    return {**found, "max": round(float(ms.max()), 1), "n": len(values)}


def _cut(audio: np.ndarray, place: int, seconds: float) -> np.ndarray:
    begin = place * len(audio) // PLACES
    return np.take(audio, np.arange(begin, begin + int(seconds * RATE)), mode="wrap")


async def calibrate(plan: Plan, audio: np.ndarray, at_once: int) -> dict[int, list[float]]:
    """Place -> when the audio of each partial has been sent, seen with `at_once` streams."""
    few = replace(plan, streams=at_once, in_phase=False)
    found: list[Outcome] = []
    for begin in range(0, PLACES, at_once):
        first = time.monotonic() + LEAD_S
        places = range(begin, min(begin + at_once, PLACES))
        found += await asyncio.gather(
            *(
                one_stream(few, place, _cut(audio, place, plan.seconds), first + start)
                for place, start in zip(places, few.starts, strict=False)
            )
        )
    return {
        outcome.place: [math.floor(at / plan.chunk_s) * plan.chunk_s for at, _ in outcome.partials]
        for outcome in found
    }


def _line(row: dict[str, Any]) -> str:
    late = row["partial_ms"] or {"p50": math.nan, "p95": math.nan, "p99": math.nan}
    final = row["final_after_decision_ms"]
    says = (
        f"{row['streams']:4d} {row['starts']:8s} {row['mode']:6s} partials "
        f"{late['p50']:6.0f} {late['p95']:6.0f} {late['p99']:6.0f} ms  "
        f"{row['server_cores']:.2f} cores ({row['server_cpu_ms_a_hop']:.1f} ms a hop)  "
        f"{'in time' if row['in_time'] else 'LATE'}"
    )
    if final:
        says += f"  finals {final['p50']:.0f} {final['p95']:.0f} {final['p99']:.0f} ms"
    return says + (f"  {row['problems']} failed: {row['problem']}" if row["problems"] else "")


async def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs that were asked for, one after the other."""
    samples, rate = soundfile.read(args.audio, dtype="int16")
    if rate != RATE or samples.ndim != 1:
        raise SystemExit(f"{args.audio}: give one channel of {RATE} Hz")
    rows = []
    due: dict[int, list[float]] | None = None
    for count in args.streams:
        plan = Plan(
            args.url,
            args.protocol,
            args.mode,
            count,
            args.seconds,
            args.chunk_ms / 1000,
            args.hop_ms / 1000,
            args.lookahead_ms / 1000,
            args.in_phase,
            args.drain,
        )
        if plan.starts[-1] > plan.seconds / 2:
            raise SystemExit(f"{count} streams begin over {plan.starts[-1]:.0f} s; --seconds more")
        if due is None:
            due = await calibrate(plan, samples, args.calibrate) if args.calibrate else {}
        server = Server(args.pid)
        row = await run(plan, samples, server, due)
        row["server_peak_mb"] = round(server.peak_mb, 1)
        rows.append(row)
        print(_line(row), file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="ws:// or wss:// address of the server, on this machine")
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="agent")
    parser.add_argument("--mode", choices=["online", "2pass"], default="online")
    parser.add_argument("--audio", type=Path, required=True, help="16 kHz, one channel")
    parser.add_argument("--streams", type=int, nargs="+", default=[1], help="one run for each")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each stream")
    parser.add_argument("--chunk-ms", type=float, default=100.0)
    parser.add_argument("--hop-ms", type=float, default=600.0)
    parser.add_argument("--lookahead-ms", type=float, default=0.0)
    parser.add_argument("--in-phase", action="store_true", help="all streams start at one moment")
    parser.add_argument(
        "--calibrate",
        type=int,
        default=0,
        metavar="N",
        help=f"with N streams at once, 1 to {PLACES}",
    )
    parser.add_argument("--drain", type=float, default=30.0, help="longest wait for the end, s")
    parser.add_argument("--pid", type=int, help="the server's process, for CPU time and memory")
    args = parser.parse_args()
    if urlsplit(args.url).hostname not in ("127.0.0.1", "localhost", "::1"):
        parser.error("measure servers of this machine only")
    if not 0 <= args.calibrate <= PLACES:
        parser.error(f"--calibrate: 1 to {PLACES} streams at once")
    if not 0 < args.seconds <= MAX_SECONDS or not all(0 < n <= MAX_STREAMS for n in args.streams):
        parser.error(f"at most {MAX_STREAMS} streams of {MAX_SECONDS:.0f} s")
    print(json.dumps(asyncio.run(measure(args)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
