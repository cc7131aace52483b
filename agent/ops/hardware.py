"""The box itself: CPU, memory, temperature, throttling, GPU; read from psutil and /sys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil

from agent.ops.jetson import gpu_clock, gpu_folders, power_events, power_mode
from agent.ops.metrics import temperature_c
from agent.ops.sysfs import read_number
from agent.ops.throttling import throttling
from agent.store.box_memory import read_memory

ROOT = Path("/")
_GPU_LOAD = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")
"""Jetson's, in tenths of a per cent."""


def hardware(root: Path = ROOT) -> dict[str, Any]:
    """State now: percentages, MB, MHz, degrees Celsius; None for what the box does not tell."""
    memory, disk, heat = psutil.virtual_memory(), psutil.disk_usage(os.getcwd()), temperature_c()
    shared, clock, mode = read_memory(root), gpu_clock(root), power_mode(root)
    return {
        "cpu_percent": psutil.cpu_percent(None),
        "cores": os.cpu_count(),
        "cpu_mhz": _mhz(root),
        "memory_total_mb": memory.total // 2**20,
        "memory_available_mb": memory.available // 2**20,
        "memory_shared_with_gpu": shared is not None and shared.shared,
        "gpu_memory_mb": shared.gpu_mb if shared is not None else None,
        "disk_free_mb": disk.free // 2**20,
        "process_mb": psutil.Process().memory_info().rss // 2**20,
        "temperature_c": None if heat != heat else heat,
        "throttled": list(throttling(root)),
        "gpu_percent": gpu_percent(root),
        "gpu_mhz": clock.now_mhz if clock else None,
        "gpu_limit_mhz": clock.limit_mhz if clock else None,
        "power_mode": str(mode) if mode else None,
        "power_events": power_events(root),
    }


def gpu_percent(root: Path = ROOT) -> float | None:
    """Load of the GPU, where the kernel tells it (Jetson up to Orin, AMD)."""
    paths = [root / name for name in _GPU_LOAD]
    for path in [*paths, *(folder / "device/load" for folder in gpu_folders(root))]:
        if (tenths := read_number(path)) is not None:
            return tenths / 10
    for path in sorted((root / "sys/class/drm").glob("card*/device/gpu_busy_percent")):
        if (percent := read_number(path)) is not None:
            return float(percent)
    return None


def _mhz(root: Path) -> int | None:
    """Clock of the fastest core now."""
    found = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    return max((khz // 1000 for path in found if (khz := read_number(path))), default=None)
