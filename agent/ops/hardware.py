"""The box itself: CPU, memory, temperature, throttling, GPU; read from psutil and /sys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from agent.ops.metrics import temperature_c

ROOT = Path("/")
_PI_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "too warm"}
_PI_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_SLOWING = ("cpufreq", "thermal-cpufreq", "thermal-devfreq", "devfreq", "Processor")
"""Beginnings of the names of cooling devices that cool by being slower."""
_GPU_LOAD = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")
"""Jetson's, in tenths of a per cent."""
_MAX_BYTES = 256


def hardware(root: Path = ROOT) -> dict[str, Any]:
    """State now: percentages, MB, degrees Celsius; None for what the box does not tell."""
    memory, disk, heat = psutil.virtual_memory(), psutil.disk_usage(os.getcwd()), temperature_c()
    return {
        "cpu_percent": psutil.cpu_percent(None),
        "cores": os.cpu_count(),
        "cpu_mhz": _mhz(root),
        "memory_total_mb": memory.total // 2**20,
        "memory_available_mb": memory.available // 2**20,
        "disk_free_mb": disk.free // 2**20,
        "process_mb": psutil.Process().memory_info().rss // 2**20,
        "temperature_c": None if heat != heat else heat,
        "throttled": list(throttling(root)),
        "gpu_percent": gpu_percent(root),
    }


def throttling(root: Path = ROOT) -> Iterator[str]:
    """Why the box is slower now than it could be, in words; nothing when it is not."""
    bits = _read(root / _PI_FILE)
    try:
        number = int(bits, 16)
    except ValueError:
        number = 0
    yield from (words for bit, words in _PI_NOW.items() if number >> bit & 1)
    slowed = set()
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _read(folder / "type")
        if kind.startswith(_SLOWING) and (_number(folder / "cur_state") or 0) > 0:
            slowed.add(kind)
    yield from (f"slowed down against heat ({kind})" for kind in sorted(slowed))


def gpu_percent(root: Path = ROOT) -> float | None:
    """Load of the GPU, where the kernel tells it (Jetson, AMD)."""
    for name in _GPU_LOAD:
        if (tenths := _number(root / name)) is not None:
            return tenths / 10
    for path in sorted((root / "sys/class/drm").glob("card*/device/gpu_busy_percent")):
        if (percent := _number(path)) is not None:
            return float(percent)
    return None


def _mhz(root: Path) -> int | None:
    """Clock of the fastest core now."""
    found = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    return max((khz // 1000 for path in found if (khz := _number(path))), default=None)


def _number(path: Path) -> int | None:
    try:
        return int(_read(path))
    except ValueError:
        return None


def _read(path: Path) -> str:
    """Text of a small file of the kernel; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode(errors="replace").strip("\0\n ")
    except OSError:
        return ""
