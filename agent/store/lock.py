"""One process at a time changes the model store."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from agent.errors import AgentError, StoreBusy
from agent.store.disk import FILE_MODE, Disk

LOCK_NAME = "lock"

_MAX_PID_BYTES = 32


class StoreLock:
    """Holds `<state>/lock` inside a `with` block. Never waits; the system frees it when the
    process ends, however it ends. The file stays and names the holder while it is held."""

    def __init__(self, state: Path, disk: Disk | None = None) -> None:
        self._path = state / LOCK_NAME
        self._disk = disk or Disk()
        self._file = -1

    def __enter__(self) -> StoreLock:
        """Raises StoreBusy when it is held, AgentError when the file can't be opened."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _pid(file)
            os.close(file)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise AgentError(
                    f"{self._path}: can't be locked ({error.strerror}); the state folder must lie "
                    "on a local disk"
                ) from error
            raise StoreBusy(
                f"{holder} is changing the model store ({self._path}); try again when it is "
                "done, or stop it"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        file, self._file = self._file, -1
        try:
            os.ftruncate(file, 0)
            # Closing alone would not do: a forked child may hold the same open file.
            fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._disk.make_folder(self._path.parent)
            file = os.open(self._path, flags, FILE_MODE)
            self._disk.hand_over(self._path)
            return file
        except OSError as error:
            raise AgentError(
                f"{self._path}: can't be opened ({error.strerror}); "
                "run it as the owner of the state folder, or as root"
            ) from error


def _pid(file: int) -> str:
    text = os.pread(file, _MAX_PID_BYTES, 0).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "another process"
