"""Runs in a process of its own: verifies the models of every role, and leaves no trace of it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.assembly import store_settings
from agent.config import Config
from agent.errors import AgentError
from agent.store.disk import FILE_MODE, FOLDER_MODE, Disk
from agent.store.store import ModelStore

ROWS = "rows "
ERROR = "error "


class UntouchedDisk(Disk):
    """Refuses every change: proofs that the store would keep are made, used and forgotten.

    Only graphs for a GPU are still derived into the state folder, since a trial reads them there.
    """

    def make_folder(self, folder: Path, mode: int = FOLDER_MODE) -> None:
        """Raises OSError unless it is there."""
        if not folder.is_dir():
            raise _refusal(folder)

    @contextmanager
    def create(self, path: Path, mode: int = FILE_MODE) -> Iterator[BinaryIO]:
        """Raises OSError."""
        raise _refusal(path)
        yield  # makes this a context manager that never opens

    def replace(self, source: Path, target: Path) -> None:
        """Raises OSError."""
        raise _refusal(target)

    def remove(self, path: Path) -> None:
        """Leaves it there."""


def main() -> None:
    """`{"cwd", "config"}` as JSON on stdin; a line `rows [...]` or `error ...` on stdout."""
    order = json.load(sys.stdin)
    _die_first()
    os.chdir(order["cwd"])  # paths of the configuration may be relative
    config = Config.model_validate(order["config"])
    try:
        store = ModelStore(store_settings(config), disk=UntouchedDisk())
        rows = [dataclasses.asdict(row) for row in store.check_roles()]
    except (AgentError, OSError) as error:
        print(ERROR + json.dumps(str(error)))
    else:
        print(ROWS + json.dumps(rows, default=str))


def _die_first() -> None:
    """Where memory does not suffice for a model twice, the check ends and not the daemon."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _refusal(path: Path) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
