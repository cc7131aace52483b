"""The progress bar of `transcribe`: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress


class FileProgress:
    """Progress over `total` files; a context manager."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = total
        self._done = 0
        self._bar: Progress | None = None
        stream = sys.stderr if stream is None else stream
        if stream.isatty():
            self._bar = _bar(stream)
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> FileProgress:
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
