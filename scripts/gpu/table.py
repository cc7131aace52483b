"""The report as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HEAD = (
    "GRAPH",
    "FORM",
    "LOAD",
    "FIRST",
    "NEW LENGTH",
    "P50",
    "P95",
    "ON THE GPU",
    "ON THE CPU",
    "COPIES",
)


def table(report: Mapping[str, Any]) -> list[str]:
    """A heading, a line for each graph, then what is worth a word."""
    results = report["results"]
    rows = [HEAD, *(row for result in results for row in _rows(result))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [_heading(report), *lines, *(word for result in results for word in _words(result))]


def _heading(report: Mapping[str, Any]) -> str:
    parts = [report["gpu"] or report["board"], report["power_mode"]]
    parts += [f"{name} {version}" for name, version in report["versions"].items() if "onnx" in name]
    return "; ".join(str(part) for part in [*parts, f"{report['seconds']:g} s of audio"] if part)


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, row in result.get("graphs", {}).items():
        nodes = dict(row.get("nodes", {}))
        on_cpu = nodes.pop("cpu", 0)
        yield (
            name,
            result["form"],
            f"{result['load_s']:.2f} s",
            f"{result['first_work_s']:.2f} s",
            f"+{result['new_length_ms']:.0f} ms",
            f"{row['p50_ms']:.1f} ms",
            f"{row['p95_ms']:.1f} ms",
            str(sum(nodes.values())),
            str(on_cpu),
            str(row.get("copies", 0)),
        )


def _words(result: Mapping[str, Any]) -> Iterator[str]:
    if "problem" in result:
        yield f"{result['name']}: {result['problem']}"
    if result["provider"] == "cpu":
        return
    for name, row in result.get("graphs", {}).items():
        if computed := row.get("computed_on_cpu"):
            found = ", ".join(f"{operator} ({count})" for operator, count in computed.items())
            yield (
                f"{name} {result['form']}: the provider has no kernels for {found}; they run on "
                "the CPU, with copies around them"
            )
