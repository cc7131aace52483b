"""The report as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.bench.measure import streams_at_once
from agent.bench.plan import Measured

HEAD = ("MODEL", "FORM", "THREADS", "VERIFY", "LOAD", "MEMORY", "WORK", "P50", "P95", "")


def heading(told: Mapping[str, Any]) -> str:
    """One line about the box, from the report."""
    cpu, versions = told["cpu"], told["versions"]
    int8 = ", ".join(cpu["int8"]) or "no dot-product instructions"
    runtime = next((f"{k} {v}" for k, v in versions.items() if k.startswith("onnxruntime")), "")
    return f"{told['board']}: {cpu['model']}, {cpu['cores']} cores, {int8}; {runtime}"


def table(results: Sequence[Measured]) -> list[str]:
    """Lines of equal columns, a line for each kind of work."""
    rows = [HEAD, *(row for result in results for row in _rows(result))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def problems(results: Sequence[Measured]) -> list[str]:
    """What could not be measured, and why."""
    return [
        f"{result.subject.found.ref} {result.subject.form}: {result.problem}"
        for result in results
        if result.problem
    ]


def _rows(result: Measured) -> list[tuple[str, ...]]:
    subject = result.subject
    form = f"{subject.form} on {subject.provider}" + (" (in use)" if subject.in_use else "")
    head = [str(subject.found.ref), form, str(subject.threads)]
    head += [f"{result.verify_s:.2f} s", f"{result.load_s:.2f} s", f"{result.memory_mb} MB"]
    rows: list[tuple[str, ...]] = []
    for entry in result.times:
        said = f"real-time factor {entry.real_time_factor:.4f}" if entry.audio_ms else ""
        if subject.role in ("vad", "asr_online"):
            said += f", {streams_at_once(entry)} streams a thread"
        times = (entry.what, f"{entry.p50_ms:.1f} ms", f"{entry.p95_ms:.1f} ms", said)
        rows.append((*head, *times))
        head = [""] * len(head)
    return rows
