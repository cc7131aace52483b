"""Progress bars of the commands: on stderr, and only where that is a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from rich.progress import Progress
    from typing_extensions import Self

_COUNTED_BLOCK = 1 << 20


class _OnTerminal:
    """A bar that is there while its block runs, on a terminal only."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class FileProgress(_OnTerminal):
    """Progress over `total` files; a context manager."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._done = 0
        stream = sys.stderr if stream is None else stream
        if stream.isatty():
            self._bar = _bar(stream)
            self._task = self._bar.add_task("", total=total)

    def start_file(self, name: str) -> None:
        """The next file begins."""
        if self._bar is not None:
            self._bar.update(self._task, description=name)

    def advance(self, done_s: float, duration_s: float | None) -> None:
        """`done_s` seconds of the current file are recognised."""
        if self._bar is not None and duration_s:
            share = min(1.0, done_s / duration_s)
            self._bar.update(self._task, completed=self._done + share)

    def end_file(self) -> None:
        """The current file is finished."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bar off the terminal while something else is written there."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


def _bar(stream: TextIO) -> Progress:
    # Imported here: without a terminal the command does without.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        # Results go to stdout, which may be a file: rich must leave it alone.
        redirect_stdout=False,
        redirect_stderr=False,
    )


class ByteProgress(_OnTerminal):
    """Progress over bytes, on stderr where that is a terminal; a context manager."""

    def __init__(self, what: str, total: int | None, stream: TextIO | None = None) -> None:
        """`total` in bytes; None: not known."""
        self._done = 0
        stream = sys.stderr if stream is None else stream
        if stream.isatty():
            self._bar = _byte_bar(stream)
            self._task = self._bar.add_task(what, total=total)

    def at(self, done: int) -> None:
        """`done` bytes of the whole are there."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def add(self, size: int) -> None:
        """`size` more bytes are there."""
        self.at(self._done + size)

    def file(self, name: str, done: int, total: int | None) -> None:
        """`done` bytes of the file `name` are there, of `total` where that is known."""
        if self._bar is not None:
            self._bar.update(self._task, description=name, completed=done, total=total)

    def reading(self, stream: BinaryIO) -> BinaryIO:
        """`stream`, with what is read of it counted."""
        return io.BufferedReader(_Counted(stream, self), _COUNTED_BLOCK)


class _Counted(io.RawIOBase):
    def __init__(self, stream: BinaryIO, progress: ByteProgress) -> None:
        self._stream = stream
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer).cast("B")
        data = self._stream.read(len(into))
        into[: len(data)] = data
        self._progress.add(len(data))
        return len(data)


def _byte_bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
