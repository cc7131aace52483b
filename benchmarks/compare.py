"""This agent beside funasr_onnx and sherpa-onnx: same weights, audio and threads, in turn.

    python benchmarks/compare.py offline MODEL --out offline.json
    python benchmarks/compare.py streaming MODEL --out streaming.json

MODEL is a folder as FunASR's exporter writes it, with the agent's manifest.yaml: int8 graphs, and
for `offline` fp32 ones too when the agent's own int8 is to be compared with its fp32. Every side
makes its own features. benchmarks/README.md says what must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from agent.bench.report import board, cpu, versions
from agent.doctor.box import Box
from agent.store.golden import built_in_clip, read_clip
from agent.store.manifest import read_manifest
from agent.store.workload import tiled
from agent.types import Int16
from benchmarks import sides
from benchmarks.rounds import Lap, compared, mean_lap, run_rounds, timed

OURS = "agent"
SCHEMA = 1
AUDIO_S = (10, 30)
STREAM_S = 30
TURN_HOPS = 5
PEERS = ("funasr_onnx", "sherpa-onnx", "sherpa-onnx-core", "onnxruntime", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one comparison and write its JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("offline", "streaming"))
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--audio", type=Path, help="16 kHz mono wav; else the model's golden audio")
    parser.add_argument("--state", type=Path, help="keeps the agent's proof; else made each time")
    parser.add_argument("--threads", type=int, default=1, help="of every side (default 1)")
    parser.add_argument("--rounds", type=int, default=12, help="rounds, or streams (default 12)")
    parser.add_argument("--without", nargs="*", default=[], help="sides to leave out")
    args = parser.parse_args(arguments)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        run = _offline if args.what == "offline" else _streaming
        comparisons = run(args, args.state or Path(scratch) / "state", Path(scratch))
    told = {
        "schema": SCHEMA,
        "time": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        "what": args.what,
        "model": read_manifest(args.model).id,
        "threads": args.threads,
        "board": board(Box()),
        "cpu": cpu(Box()),
        "versions": {**versions(), **_peer_versions()},
        "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "comparisons": comparisons,
    }
    args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for comparison in comparisons:
        print(comparison["name"], json.dumps(comparison["ratios"]))
    return 0


def _offline(args: argparse.Namespace, state: Path, work: Path) -> list[dict[str, Any]]:
    model, form = sides.our_model(args.model.resolve(), state.resolve(), args.threads)
    openers: dict[str, Callable[[], sides.Decode]] = {
        OURS: lambda: sides.our_decode(model),
        "funasr_onnx": lambda: sides.funasr_onnx_decode(args.model, args.threads),
        "sherpa-onnx": lambda: sides.sherpa_decode(args.model, work, args.threads),
        "agent fp32": lambda: sides.our_decode(
            sides.our_variant(args.model.resolve(), "fp32", args.threads)
        ),
    }
    decoders = {name: opener() for name, opener in openers.items() if name not in args.without}
    comparisons = []
    for seconds in AUDIO_S:
        audio = tiled(_clip(args), seconds)
        tokens = {name: decode(audio) for name, decode in decoders.items()}
        works = {name: _work(decode, audio) for name, decode in decoders.items()}
        laps = run_rounds(works, args.rounds)
        found = compared(laps, OURS)
        name = f"offline, {seconds} s of audio"
        comparisons.append({"name": name, "form": form, "tokens": tokens, **found})
    return comparisons


def _streaming(args: argparse.Namespace, state: Path, work: Path) -> list[dict[str, Any]]:
    """A few hops of each side in turn: as in use, the weights stay in the processor's cache as far
    as they fit. The first hops of a stream only fill the look-ahead."""
    model, form = sides.our_model(args.model.resolve(), state.resolve(), args.threads)
    openers: dict[str, Callable[[], sides.OpenStream]] = {
        OURS: lambda: sides.our_streams(model),
        "funasr_onnx": lambda: sides.funasr_onnx_streams(args.model, args.threads),
        "sherpa-onnx": lambda: sides.sherpa_streams(args.model, work, args.threads),
    }
    opened = {name: opener() for name, opener in openers.items() if name not in args.without}
    names = list(opened)
    audio = tiled(_clip(args), STREAM_S)
    hops = [
        audio[first : first + sides.HOP_SAMPLES]
        for first in range(0, len(audio) - sides.HOP_SAMPLES + 1, sides.HOP_SAMPLES)
    ]
    turns = [hops[first : first + TURN_HOPS] for first in range(0, len(hops), TURN_HOPS)]
    laps: dict[str, list[Lap]] = {name: [] for name in opened}
    for _ in range(max(1, args.rounds // 4)):
        streams = {name: begin() for name, begin in opened.items()}
        for number, turn in enumerate(turns):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                taken = [timed(_work(streams[name], samples)) for samples in turn]
                if number:
                    laps[name].append(mean_lap(taken[1:]))
    return [{"name": "streaming, a hop of 600 ms", "form": form, **compared(laps, OURS)}]


def _work(take: Callable[[Int16], object], samples: Int16) -> Callable[[], object]:
    return lambda: take(samples)


def _clip(args: argparse.Namespace) -> Int16:
    if args.audio is not None:
        return read_clip(args.audio.read_bytes(), args.audio.name)
    golden = read_manifest(args.model).golden
    if golden is None or not golden.audio:
        return built_in_clip()
    return np.asarray(read_clip((args.model / golden.audio).read_bytes(), golden.audio))


def _peer_versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
