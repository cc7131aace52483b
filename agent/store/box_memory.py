"""The box's memory, and what of it a GPU holds that shares it, as on NVIDIA's Jetson.

There one memory serves both: what the GPU takes is missing for the CPU, and the kernel's
MemAvailable has it subtracted already. The sources are those that NVIDIA's CUDA for Tegra names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_SHARED_SIGNS = ("dev/nvmap", "etc/nv_tegra_release")
_TREE = "proc/device-tree/compatible"
_TEGRA = b"nvidia,tegra"
_CLIENTS = "sys/kernel/debug/nvmap/iovmm/clients"
"""Only root may read it."""
_MAX_BYTES = 1 << 18


@dataclass(frozen=True)
class BoxMemory:
    """In MB."""

    total_mb: int
    available_mb: int
    """What programs can still take, for the GPU too where it shares the memory."""
    shared: bool
    """Whether the GPU has no memory of its own."""
    gpu_mb: int | None = None
    """Part of this memory that the GPU holds, of all programs; None: not told, or not shared."""


def read_memory(root: Path = ROOT) -> BoxMemory | None:
    """The memory now; None where /proc/meminfo can't be read."""
    text = _read(root / "proc/meminfo").decode("ascii", "replace")
    total, available = _meminfo(text, "MemTotal"), _meminfo(text, "MemAvailable")
    if total is None or available is None:
        return None
    shared = shares_memory(root)
    held = _meminfo(text, "NvMapMemUsed") if shared else None
    if shared and held is None:
        held = _clients_mb(_read(root / _CLIENTS).decode("ascii", "replace"))
    return BoxMemory(total, available, shared, held)


def shares_memory(root: Path = ROOT) -> bool:
    """Whether CPU and GPU share one memory: a Tegra of NVIDIA."""
    return any((root / sign).exists() for sign in _SHARED_SIGNS) or _TEGRA in _read(root / _TREE)


def gpu_held_mb(root: Path = ROOT) -> int:
    """What the GPU holds of a shared memory, in MB; 0 where that is not told."""
    memory = read_memory(root)
    return (memory.gpu_mb or 0) if memory is not None else 0


def _meminfo(text: str, field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def _clients_mb(text: str) -> int | None:
    found = re.search(r"^total\s+(\d+)K", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return b""
