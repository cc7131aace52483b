"""The report: what was measured, and everything about the box that the figures depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from typing import Any

import psutil

from agent import __version__
from agent.bench.measure import streams_at_once
from agent.bench.plan import Measured
from agent.doctor.box import Box
from agent.doctor.cpu import DOT_PRODUCT, first_processor
from agent.store.box import installed_runtimes

SCHEMA = 1
_PACKAGES = ("numpy", "kaldi-native-fbank")
_VECTOR_FLAGS = ("avx2", "avx512f", "amx_bf16", "asimdhp", "sve")
_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_BOARDS = ("proc/device-tree/model", "sys/devices/virtual/dmi/id/product_name")


def report(
    results: Sequence[Measured],
    settings: Mapping[str, Any],
    box: Box,
    now: datetime,
    *,
    daemon: bool,
) -> dict[str, Any]:
    """The whole report, ready for JSON. `daemon`: whether an agent ran beside the measurement."""
    return {
        "schema": SCHEMA,
        "time": now.replace(microsecond=0).isoformat(),
        "board": board(box),
        "cpu": cpu(box),
        "memory_mb": psutil.virtual_memory().total >> 20,
        "versions": versions(),
        "settings": dict(settings),
        "daemon_running": daemon,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "results": [result_json(result) for result in results],
    }


def result_json(result: Measured) -> dict[str, Any]:
    """One model in one form with a number of threads."""
    subject = result.subject
    row: dict[str, Any] = {
        "role": subject.role,
        "model": str(subject.found.ref),
        "sha256": subject.found.manifest.sha256,
        "variant": subject.variant,
        "derived": subject.derived or None,
        "provider": subject.provider,
        "threads": subject.threads,
        "in_use": subject.in_use,
    }
    if result.problem:
        return {**row, "problem": result.problem}
    times = []
    for entry in result.times:
        shown = asdict(entry)
        if entry.audio_ms:
            shown["real_time_factor"] = round(entry.real_time_factor, 5)
        if subject.role in ("vad", "asr_online"):
            shown["streams_a_thread"] = streams_at_once(entry)
        times.append(shown)
    return {
        **row,
        "verify_s": result.verify_s,
        "load_s": result.load_s,
        "memory_mb": result.memory_mb,
        "memory_after_work_mb": result.memory_after_work_mb,
        "times": times,
    }


def board(box: Box) -> str:
    """What the firmware calls the machine, else its architecture."""
    return next((name for path in _BOARDS if (name := box.read(path))), platform.machine())


def cpu(box: Box) -> dict[str, Any]:
    """Processor, cores that may be used, and its vector instructions."""
    fields = first_processor(box.read("proc/cpuinfo"))
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    return {
        "model": fields.get("model name") or fields.get("cpu part") or "unknown",
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "int8": [words for flag, words in DOT_PRODUCT.items() if flag in flags],
        "vectors": [flag for flag in _VECTOR_FLAGS if flag in flags],
        "governor": box.read(_GOVERNOR) or None,
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Of the agent, of Python and the kernel, of the runtime and what else computes."""
    found = {
        "funasr-agent": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        **installed_runtimes(),
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
