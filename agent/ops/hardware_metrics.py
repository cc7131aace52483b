"""Metrics of the box: what every box has, and what a Jetson tells beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psutil

from agent.ops.hardware import ROOT, gpu_percent
from agent.ops.jetson import gpu_clock, power_events, power_mode, power_modes
from agent.ops.metrics import Metrics, temperature_c
from agent.ops.throttling import throttling
from agent.store.box_memory import gpu_held_mb, read_memory

_HZ = 1_000_000
_NAN = float("nan")


def add_hardware_metrics(metrics: Metrics, root: Path = ROOT) -> None:
    """Add those that this box has."""
    metrics.gauge("cpu_percent", "Load of all cores", lambda: psutil.cpu_percent(None))
    metrics.gauge(
        "memory_available_bytes",
        "Memory left on the box",
        lambda: float(psutil.virtual_memory().available),
    )
    metrics.gauge("temperature_celsius", "Hottest sensor", temperature_c)
    metrics.gauge(
        "throttled",
        "1 while heat or weak power slows the box",
        lambda: float(next(throttling(root), None) is not None),
    )
    if gpu_percent(root) is not None:
        metrics.gauge("gpu_percent", "Load of the GPU", lambda: _told(gpu_percent(root)))
    if gpu_clock(root) is not None:
        metrics.gauge("gpu_clock_hertz", "Clock of the GPU", partial(_clock, root))
    memory = read_memory(root)
    if memory is not None and memory.gpu_mb is not None:
        metrics.gauge(
            "gpu_memory_bytes",
            "Memory that the GPU holds, a part of the box's own",
            lambda: float(gpu_held_mb(root) << 20),
        )
    if power_events(root):
        metrics.count(
            "power_events",
            "How often low voltage or high current has slowed the box since its start",
            lambda: float(sum(power_events(root).values())),
        )
    if power_mode(root) is not None:
        modes = {name: partial(_is_mode, root, name) for name in power_modes(root)}
        metrics.gauges("power_mode", "1 for the power mode in force", "mode", modes)


def _told(value: float | None) -> float:
    return _NAN if value is None else value


def _clock(root: Path) -> float:
    clock = gpu_clock(root)
    return _NAN if clock is None else float(clock.now_mhz * _HZ)


def _is_mode(root: Path, name: str) -> float:
    mode = power_mode(root)
    return float(mode is not None and mode.name == name)
