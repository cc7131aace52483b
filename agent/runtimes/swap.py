"""Two sets of folders change places, and a kill at any moment leaves a runtime that works.

The module's folder is exchanged by one rename (renameat2, RENAME_EXCHANGE): there is no moment
without it. What belongs to it follows, by a journal that the next call completes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.runtimes.wheel import MODULE, RuntimeRefused, sync_folder

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EXDEV)


@dataclass(frozen=True)
class Plan:
    """A swap, as the journal holds it."""

    other: str
    """The folder whose entries go to `site`."""
    new: Mapping[str, int]
    """Name -> inode of its entries."""
    old: Sequence[str]
    """Names in `site` that go to `other`."""
    keep: bool
    """Whether what has gone there is to be kept when the swap stands."""


def start_swap(site: Path, other: Path, old: Sequence[str], journal: Path, *, keep: bool) -> None:
    """`other`'s entries take the place of those named `old` in `site`, which go to `other`.

    Both folders lie on one disk; the journal stays. Raises RuntimeRefused, with nothing changed,
    where the disk can't exchange folders.
    """
    _require_exchange(other)
    new = {name: (other / name).stat().st_ino for name in sorted(os.listdir(other))}
    plan = Plan(str(other), new, list(old), keep)
    _write(journal, json.dumps(asdict(plan)))
    finish_swap(site, plan)


def read_plan(journal: Path) -> Plan | None:
    """The swap that was begun; None: none, or nothing of it was done yet."""
    try:
        return Plan(**json.loads(journal.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # its writing was cut off, so nothing was moved
        journal.unlink()
        return None


def finish_swap(site: Path, plan: Plan) -> None:
    """Do what is left of a swap; nothing when it is done."""
    other = Path(plan.other)
    for name in sorted(plan.new, key=_order):
        _bring(other / name, site / name, plan.new[name])
    for name in plan.old:
        if name not in plan.new and (site / name).exists():
            (site / name).rename(other / name)
    sync_folder(site)


def exchange(one: Path, two: Path) -> None:
    """Both change names at once. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:  # glibc before 2.28
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = os.fsencode(one), os.fsencode(two)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def _order(name: str) -> tuple[int, str]:
    """Libraries that the module needs come before it, its metadata after it."""
    return (1 if name == MODULE else 2 if name.endswith(".dist-info") else 0), name


def _bring(source: Path, target: Path, inode: int) -> None:
    if not target.exists():
        source.rename(target)
    elif target.stat().st_ino != inode:
        exchange(source, target)


def _require_exchange(folder: Path) -> None:
    names = [folder.parent / f".exchange-{i}" for i in range(2)]
    for path in names:
        path.mkdir(exist_ok=True)
    try:
        exchange(*names)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise RuntimeRefused(
                f"{folder.parent}: this file system can't exchange two folders in one step; put "
                "the environment on ext4, xfs, btrfs or tmpfs"
            ) from None
        raise
    finally:
        for path in names:
            path.rmdir()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
