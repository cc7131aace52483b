"""Memory: what the models need against what this box, or its container, has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.doctor.box import Box
from agent.doctor.report import Check, failure, ok, warning
from agent.store.box_memory import read_memory

NAME = "memory"
AGENT_MB = 200
"""The agent itself: interpreter, web server, sessions."""
_UNLIMITED_MB = 1 << 40
_SERVICE_GROUP = "sys/fs/cgroup/system.slice/funasr-agent.service"


def check_memory(box: Box, rows: Sequence[Any] | None, daemon_mb: int) -> list[Check]:
    """One line. `rows` are the checked models, None when unknown; `daemon_mb` is what an agent
    that runs already holds (0: none runs)."""
    memory = read_memory(box.root)
    if memory is None:
        return [warning(NAME, "/proc/meminfo can't be read", "mount /proc")]
    total, available, limit = memory.total_mb, memory.available_mb, _limit_mb(box)
    seen = f"{available} MB of {total} MB available"
    if memory.shared:
        held = "" if memory.gpu_mb is None else f", which holds {memory.gpu_mb} MB of it"
        seen += f", shared with the GPU{held}"
    if limit < total:
        seen += f", limited to {limit} MB by the control group"
    if daemon_mb:
        seen += f", the running agent holds {daemon_mb} MB"
        if memory.gpu_mb:
            # The GPU's part is no program's resident memory, and the agent's is at most this.
            needed = sum(row.gpu_mb for row in rows or () if row.serves)
            daemon_mb += min(memory.gpu_mb, needed)
    if rows is None:
        return [ok(NAME, f"{seen}; what the models need is not known")]
    need = AGENT_MB + sum(row.memory_mb for row in rows if row.serves)
    on_gpu = sum(row.gpu_mb for row in rows if row.serves)
    seen += f"; models and agent need about {need} MB"
    if on_gpu:
        seen += f", {on_gpu} MB of it on the GPU"
    advice = "use smaller models, or a box with more memory"
    if need > total or need - on_gpu > limit:  # a control group does not count the GPU's part
        if need - on_gpu > limit:
            advice = "raise the limit (MemoryMax= of the service, --memory of the container)"
        return [failure(NAME, seen, advice)]
    if need > available + daemon_mb:
        advice = f"end other programs (they hold {total - available - daemon_mb} MB), or {advice}"
        return [warning(NAME, seen, advice)]
    return [ok(NAME, seen)]


def _limit_mb(box: Box) -> int:
    """The narrowest memory limit of this process's groups and of the service's, in MB."""
    files = [f"{_SERVICE_GROUP}/memory.max"]
    for line in box.read("proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        parts = [part for part in path.split("/") if part]
        if not controllers:
            base, file = "sys/fs/cgroup", "memory.max"
        elif controllers == "memory":
            base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        files += ["/".join([base, *parts[:depth], file]) for depth in range(len(parts) + 1)]
    limits = [number for file in files if (number := box.read_number(file)) is not None]
    return min(limits, default=_UNLIMITED_MB << 20) >> 20
