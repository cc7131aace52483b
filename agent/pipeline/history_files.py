"""The files of the history: the database, its logs, damaged copies that were set aside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.pipeline.history_store import HistoryStore, Wanted

ASIDE_MOST = 3
"""Damaged databases that are kept beside the one in use."""


def files(path: Path) -> list[Path]:
    """Every file that holds words of the history at `path`."""
    return [found for found in path.parent.glob(path.name + "*") if found.is_file()]


def aside(path: Path) -> list[Path]:
    """Damaged copies, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def set_aside(path: Path, now: float) -> Path:
    """Rename a damaged database; the oldest copies go. Raises OSError."""
    kept = path.with_name(f"{path.name}.damaged-{int(now)}")
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.rename(kept)
    for old in aside(path)[:-ASIDE_MOST]:
        old.unlink()
    return kept


def remove_files(path: Path) -> int:
    """Remove a history that nobody writes, with all its words; how many finals it had, as far as
    can be read. Raises OSError."""
    count = 0
    try:
        store = HistoryStore(path) if path.exists() else None
    except sqlite3.Error:
        store = None  # damaged; its files go all the same
    if store is not None:
        count = store.delete(Wanted())
        first = True
        while store.clean(first):
            first = False
        store.close()
    for found in files(path):
        found.unlink(missing_ok=True)
    return count
