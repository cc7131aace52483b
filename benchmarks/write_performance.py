"""Writes docs/performance.md from what benchmarks/compare.py and `funasr-agent bench` measured.

python benchmarks/write_performance.py offline.json streaming.json [--bench report.json]
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
    parser.add_argument("--to", type=Path, default=TARGET, metavar="FILE")
    args = parser.parse_args(arguments)
    told = [json.loads(path.read_text(encoding="utf-8")) for path in args.comparisons]
    bench = json.loads(args.bench.read_text(encoding="utf-8")) if args.bench else None
    args.to.write_text(document(told, bench), encoding="utf-8")
    return 0


def document(told: Sequence[Mapping[str, Any]], bench: Mapping[str, Any] | None) -> str:
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


def _spread(values: Mapping[str, float], digits: int) -> str:
    return f"{values['p50']:.{digits}f} ({values['p25']:.{digits}f} to {values['p75']:.{digits}f})"


def _table(rows: Table) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
