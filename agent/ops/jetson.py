"""An NVIDIA Jetson's power mode, GPU clock and power events, from files and without its tools.

The files are those of JetPack 5 and 6 (Orin) and 7 (Thor); where one is missing nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.ops.sysfs import read_number, read_text

_STATUS = "var/lib/nvpmodel/status"
"""`pmode:0002`, written by nvpmodel when it sets a mode."""
_CONF = "etc/nvpmodel.conf"
_CONF_BYTES = 1 << 18
_MODE = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", re.MULTILINE)
_DEFAULT = re.compile(r"^<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>", re.MULTILINE)
_GPU_CLOCKS = ("*.gpu", "*.ga10b", "*.gv11b", "gpu-gpc-*")
"""Names in /sys/class/devfreq: JetPack 6, JetPack 5 on Orin and on Xavier, JetPack 7 on Thor."""
_EVENTS = {
    1: "low voltage",
    2: "average current too high",
    3: "current too high for a moment",
}
"""OC1 to OC3 of the SoC's over-current throttling, as NVIDIA's guide names them."""
_HZ = 1_000_000


@dataclass(frozen=True)
class PowerMode:
    """The mode that nvpmodel has set."""

    id: int
    name: str
    """`15W`, `MAXN_SUPER`; empty when /etc/nvpmodel.conf does not name it."""
    better: str = ""
    """The mode that gives the most; empty when it is this one."""
    better_id: int = -1

    def __str__(self) -> str:
        told = f"power mode {self.name or self.id}"
        if not self.better:
            return told
        return f"{told}; {self.better} gives more (sudo nvpmodel -m {self.better_id})"


@dataclass(frozen=True)
class GpuClock:
    """In MHz."""

    now_mhz: int
    limit_mhz: int | None
    """What it may reach now, by power mode and heat."""
    most_mhz: int | None
    """What it can at all."""


def power_mode(root: Path) -> PowerMode | None:
    """The mode in force; None on a box without nvpmodel."""
    conf = read_text(root / _CONF, _CONF_BYTES)
    modes = {int(number): name for number, name in _MODE.findall(conf)}
    found = re.search(r"pmode:(\d+)", read_text(root / _STATUS))
    found = found or _DEFAULT.search(conf)
    if found is None:
        return None
    number = int(found[1])
    name = modes.get(number, "")
    best = max(modes, key=lambda mode: _strength(modes[mode]), default=number)
    if not name or _strength(modes[best]) <= _strength(name):
        return PowerMode(number, name)
    return PowerMode(number, name, modes[best], best)


def power_modes(root: Path) -> list[str]:
    """Names of all modes of this board, by their number."""
    found = _MODE.findall(read_text(root / _CONF, _CONF_BYTES))
    return [name for _, name in sorted(found, key=lambda mode: int(mode[0]))]


def gpu_clock(root: Path) -> GpuClock | None:
    """The clock of the integrated GPU; None where the kernel does not tell it."""
    for folder in gpu_folders(root):
        now = read_number(folder / "cur_freq")
        if now is None:
            continue
        steps = read_text(folder / "available_frequencies", _CONF_BYTES).split()
        most = max((int(step) for step in steps if step.isdigit()), default=None)
        return GpuClock(now // _HZ, _mhz(read_number(folder / "max_freq")), _mhz(most))
    return None


def gpu_folders(root: Path) -> Iterator[Path]:
    """The GPU in /sys/class/devfreq."""
    for pattern in _GPU_CLOCKS:
        yield from sorted((root / "sys/class/devfreq").glob(pattern))


def power_events(root: Path) -> dict[str, int]:
    """Kind -> how often it has slowed the box since its start; empty where it is not counted."""
    counts: dict[str, int] = {}
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc[0-9]_event_cnt")):
        count = read_number(path)
        if count is not None:
            kind = _EVENTS.get(int(path.name[2]), path.name.removesuffix("_event_cnt"))
            counts[kind] = counts.get(kind, 0) + count
    return counts


def _strength(name: str) -> tuple[float, int]:
    """For comparing: MAXN lifts every cap; else by watts, and by cores where they are named."""
    cores = re.search(r"(\d+)_?CORE", name, re.IGNORECASE)
    watts = re.search(r"(\d+(?:\.\d+)?)W", name, re.IGNORECASE)
    power = float("inf") if name.upper().startswith("MAXN") else float(watts[1]) if watts else 0.0
    return power, int(cores[1]) if cores else 1 << 10


def _mhz(hertz: int | None) -> int | None:
    return None if hertz is None else hertz // _HZ
