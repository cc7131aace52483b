"""Changes of the state folder that survive a power cut: the one door to it for the store.

A file counts as written when it and its folder are synced. Everything that replaces something
is written beside it, synced, renamed over it, and the folder is synced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent.errors import NoSpace

FILE_MODE = 0o644
FOLDER_MODE = 0o755


class Disk:
    """Durable file operations. Tests replace it by one that records the order of operations.

    What root makes below a folder of another user is given to that user, so that a daemon that
    runs as a user of its own can go on with it.
    """

    def make_folder(self, folder: Path, mode: int = FOLDER_MODE) -> None:
        """Make `folder` and its missing parents, and sync the parents."""
        missing = [folder, *folder.parents]
        missing = [path for path in missing if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=mode, exist_ok=True)
            self.hand_over(path)
            self.sync_folder(path.parent)

    @contextmanager
    def create(self, path: Path, mode: int = FILE_MODE) -> Iterator[BinaryIO]:
        """A new file, open for writing; synced when the block ends without an exception.

        Raises FileExistsError. The folder is not synced: call `sync_folder` when all is written.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        self.hand_over(path)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file or folder over `target`, then sync the folders of both."""
        os.replace(source, target)
        self.sync_folder(target.parent)
        if source.parent != target.parent:
            self.sync_folder(source.parent)

    def write(self, path: Path, data: bytes, mode: int = FILE_MODE) -> None:
        """Put `data` in place of whatever `path` held, as a whole or not at all."""
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        self.remove(new)
        try:
            with self.create(new, mode) as file:
                file.write(data)
            self.replace(new, path)
        except BaseException:
            self.remove(new)
            raise

    def remove(self, path: Path) -> None:
        """Remove a file or a whole folder if it is there; not synced, since a rest does no harm."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make names in `folder` durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def hand_over(self, path: Path) -> None:
        """Give what root made to the owner of the folder it lies in."""
        if os.geteuid() != 0:
            return
        owner = path.parent.stat()
        if (owner.st_uid, owner.st_gid) != (0, 0):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def require_space(folder: Path, needed: int, *, reserve: int = 64 << 20) -> None:
    """Raises NoSpace unless `folder`'s disk takes `needed` bytes and keeps `reserve` free."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + reserve:
        raise NoSpace(
            f"{existing} has {free // 2**20} MB free, {(needed + reserve) // 2**20} MB are needed; "
            "remove models that are not used, or files that are not the agent's"
        )
