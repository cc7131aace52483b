"""The disk of the state folder: room, and a write that reaches it."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.report import Check, failure, gathered, warning

NAME = "disk"
LOW_MB = 1024
FULL_MB = 100
SLOW_S = 2.0
"""A synced write of `WRITE_BYTES` that takes longer tells of a worn or overloaded card."""
WRITE_BYTES = 256 * 1024
_MAKE_ROOM = "make room: remove models that are not used, or files that are not the agent's"


@dataclass(frozen=True)
class Space:
    """Of a file system."""

    free_mb: int
    """For users other than root."""
    total_mb: int
    is_read_only: bool
    has_names_left: bool
    """Whether another file can be made (inodes)."""


def space_of(folder: Path, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> Space:
    """Of the file system that holds `folder`. Raises OSError."""
    found = statvfs(folder)
    return Space(
        found.f_bavail * found.f_frsize >> 20,
        found.f_blocks * found.f_frsize >> 20,
        bool(found.f_flag & os.ST_RDONLY),
        found.f_favail > 0 or found.f_files == 0,
    )


def timed_write(folder: Path) -> float:
    """Seconds until a small file in `folder` was on the disk; it is removed. Raises OSError."""
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
        file.write(os.urandom(WRITE_BYTES))
        file.flush()
        os.fsync(file.fileno())
        return time.perf_counter() - started


def check_disk(
    state_dir: Path,
    space: Callable[[Path], Space] = space_of,
    write: Callable[[Path], float] = timed_write,
) -> list[Check]:
    """One line."""
    state_dir = state_dir.absolute()
    there = next(path for path in (state_dir, *state_dir.parents) if os.path.lexists(path))
    if not there.is_dir():
        seen = f"{there} is not a folder"
        return [failure(NAME, seen, "point state_dir to a folder that the agent may write to")]
    found = space(there)
    told = [f"{found.free_mb} MB of {found.total_mb} MB free at {there}"]
    problems = _space_problems(found, there)
    if there == state_dir:
        problems += _owner_problems(state_dir)
        if not found.is_read_only:
            text, failed = _write_test(state_dir, write)
            told += text
            problems += failed
    elif os.access(there, os.W_OK | os.X_OK) or found.is_read_only:
        told.append(f"{state_dir} is made at the first start")
    else:
        advice = f"sudo install -d -o USER {state_dir} for the agent's user, or change state_dir"
        problems.append(failure(NAME, f"this user can't make {state_dir}", advice))
    return [gathered(NAME, told, problems)]


def _space_problems(found: Space, there: Path) -> list[Check]:
    problems = []
    if found.is_read_only:
        advice = "mount it writable, or point state_dir to another disk; see dmesg for disk errors"
        problems.append(failure(NAME, f"{there} is on a read-only file system", advice))
    if not found.has_names_left:
        seen = "no file can be made any more (no inodes left)"
        problems.append(failure(NAME, seen, "remove folders with very many files"))
    if found.free_mb < FULL_MB:
        problems.append(failure(NAME, f"the disk is full (under {FULL_MB} MB)", _MAKE_ROOM))
    elif found.free_mb < LOW_MB:
        problems.append(warning(NAME, f"little room (under {LOW_MB} MB)", _MAKE_ROOM))
    return problems


def _owner_problems(folder: Path) -> list[Check]:
    mode = folder.stat().st_mode
    if mode & 0o002:
        return [warning(NAME, f"everyone may write to {folder}", f"chmod o-w {folder}")]
    return []


def _write_test(folder: Path, write: Callable[[Path], float]) -> tuple[list[str], list[Check]]:
    """What to say, and what is wrong."""
    try:
        took_s = write(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return [], [
            failure(NAME, f"a test file can't be written: {reason}", _advice(error, folder))
        ]
    text = [f"a synced write took {took_s * 1000:.0f} ms"]
    if took_s <= SLOW_S:
        return text, []
    advice = (
        "replace the card or disk if this stays so: it is worn, or another program keeps it busy"
    )
    return text, [warning(NAME, "writing is very slow", advice)]


def _advice(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _MAKE_ROOM
    if error.errno in (errno.EACCES, errno.EPERM):
        uid = folder.stat().st_uid
        return f"run this check with sudo, or as user {uid}, whom {folder} belongs to"
    return "point state_dir to a healthy disk; see dmesg for disk errors"
