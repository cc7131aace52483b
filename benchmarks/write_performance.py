"""Writes docs/performance.md from what benchmarks/compare.py and `funasr-agent bench` measured.

python benchmarks/write_performance.py offline.json streaming.json [--bench report.json]
    [--streams "sherpa-onnx=FILE" ...] for what benchmarks/streams.py printed for each server
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
LIMITS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("offline", "agent / funasr_onnx"): (0.6, 0.5),
    ("offline", "agent / sherpa-onnx"): (0.55, 0.45),
    ("streaming", "agent / funasr_onnx"): (0.6, 0.5),
    ("streaming", "agent / sherpa-onnx"): (0.75, 0.6),
}
"""What is compared -> ratio that must not be exceeded, and the goal."""
Table = list[tuple[str, ...]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparisons", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--bench", type=Path, metavar="JSON", help="report of funasr-agent bench")
    parser.add_argument(
        "--streams", type=_labelled, action="append", default=[], metavar="SERVER=JSON"
    )
    parser.add_argument("--to", type=Path, default=TARGET, metavar="FILE")
    args = parser.parse_args(arguments)
    told = [json.loads(path.read_text(encoding="utf-8")) for path in args.comparisons]
    bench = json.loads(args.bench.read_text(encoding="utf-8")) if args.bench else None
    held = [(server, json.loads(path.read_text(encoding="utf-8"))) for server, path in args.streams]
    args.to.write_text(document(told, bench, held), encoding="utf-8")
    return 0


def document(
    told: Sequence[Mapping[str, Any]],
    bench: Mapping[str, Any] | None,
    held: Sequence[tuple[str, Sequence[Mapping[str, Any]]]] = (),
) -> str:
    """The whole page."""
    parts = [
        "# Performance",
        "Written by benchmarks/write_performance.py; benchmarks/README.md says how it is measured. "
        "Same weights, audio and threads on every side, each making its own features, in turn; a "
        "ratio is taken within a round and told by its median and quartiles. CPU time is less "
        "touched by other programs on the machine than the time on the wall.",
    ]
    for run in told:
        parts += _comparison(run)
    if held:
        parts += _streams(held)
    if bench is not None:
        parts += _bench(bench)
    return "\n\n".join(parts) + "\n"


def _comparison(run: Mapping[str, Any]) -> list[str]:
    parts = [f"## {run['what'].capitalize()}: {run['model']}", _measured_on(run)]
    for entry in run["comparisons"]:
        rows: Table = [("side", "laps", "CPU ms", "wall ms", "least ms")]
        for name, side in entry["sides"].items():
            label = f"{name} ({entry['form']})" if name == "agent" else name
            times = (_spread(side["cpu_ms"], 1), _spread(side["wall_ms"], 1))
            rows.append((label, str(side["laps"]), *times, f"{side['least_ms']:.1f}"))
        ratios: Table = [("ratio", "CPU", "wall", "must be", "goal", "")]
        for name, ratio in entry["ratios"].items():
            limit, goal = LIMITS.get((run["what"], name), (0.0, 0.0))
            bounds = (f"<= {limit}", f"<= {goal}") if limit else ("", "")
            spreads = (_spread(ratio["cpu"], 3), _spread(ratio["wall"], 3))
            ratios.append((name, *spreads, *bounds, verdict(ratio, limit, goal)))
        parts += [f"### {entry['name'].capitalize()}", _table(rows), _table(ratios)]
    return parts


def verdict(ratio: Mapping[str, Any], limit: float, goal: float) -> str:
    """What a ratio came to by the worse of its two medians; empty where nothing is asked."""
    worse = max(ratio["cpu"]["p50"], ratio["wall"]["p50"])
    if not limit:
        return ""
    if worse <= goal:
        return "goal reached"
    return "holds" if worse <= limit else "missed"


def _streams(held: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[str]:
    rows: Table = [
        (
            "server",
            "mode",
            "starts",
            "streams",
            "partials late by ms",
            "finals after speech ms",
            "CPU ms a hop",
            "cores",
            "memory MB",
            "",
        )
    ]
    for server, runs in held:
        for run in runs:
            late, final = (
                _percentiles(run["partial_ms"]),
                _percentiles(run["final_after_speech_ms"]),
            )
            cpu = (f"{run['server_cpu_ms_a_hop']:.0f}", f"{run['server_cores']:.2f}")
            head = (server, run["mode"], run["starts"], str(run["streams"]))
            memory = f"{run['server_peak_mb']:.0f}"
            said = "in time" if run["in_time"] else "late"
            rows.append((*head, late, final, *cpu, memory, said))
    return [
        "## Live streams held at once",
        "Real-time clients of benchmarks/streams.py against each server in turn, on the same "
        "machine, in chunks of 100 ms: p50 / p95 / p99. A partial is late by its arrival minus "
        "the sending of the chunk that completed what it needs (sherpa-onnx needs 35 ms beyond a "
        "hop, so one chunk more); in time: 99 of 100 within one hop of 600 ms, and every stream "
        "ended.",
        _table(rows),
    ]


def _percentiles(values: Mapping[str, float] | None) -> str:
    return " / ".join(f"{values[p]:.0f}" for p in ("p50", "p95", "p99")) if values else ""


def _bench(report: Mapping[str, Any]) -> list[str]:
    rows: Table = [("model", "form", "threads", "load s", "memory MB", "work", "p50 ms", "p95 ms")]
    for row in report["results"]:
        form = f"{row['derived'] or row['variant']} on {row['provider']}"
        for entry in row.get("times", ()):
            head = (row["model"], form, str(row["threads"]))
            loaded = (f"{row['load_s']:.2f}", str(row["memory_mb"]), entry["what"])
            rows.append((*head, *loaded, f"{entry['p50_ms']:.1f}", f"{entry['p95_ms']:.1f}"))
    return ["## The agent's models alone", _measured_on(report), _table(rows)]


def _measured_on(run: Mapping[str, Any]) -> str:
    cpu = run["cpu"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    threads = f", {run['threads']} thread(s)" if "threads" in run else ""
    int8 = ", ".join(cpu["int8"]) or "no dot-product instructions"
    load = " and ".join(map(str, run["load_average"][:2]))
    return (
        f"Measured {run['time']} on {run['board']} ({cpu['model']}, {cpu['cores']} cores, "
        f"{int8}){threads}, load average {load}: {versions}."
    )


def _labelled(text: str) -> tuple[str, Path]:
    server, separator, path = text.partition("=")
    if not (server and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r}: must be SERVER=FILE")
    return server, Path(path)


def _spread(values: Mapping[str, float], digits: int) -> str:
    return f"{values['p50']:.{digits}f} ({values['p25']:.{digits}f} to {values['p75']:.{digits}f})"


def _table(rows: Table) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
