"""Shows the lines of the check to people: aligned columns, colours only on a terminal."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TextIO

from agent.doctor.report import Check, Report, Status

if TYPE_CHECKING:
    from rich.console import Console

_MARK_WIDTH = 7
_NAME_WIDTH = 17
_MARKS = {Status.OK: "ok", Status.WARNING: "warning", Status.FAILURE: "FAILURE"}
_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILURE: "bold red"}
_ARROW = "-> "
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Screen:
    """Writes each line as soon as it is known."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._console = _console(self._stream) if self._stream.isatty() else None

    def show(self, check: Check) -> None:
        """One line of the report."""
        seen, advice = clean(check.seen), clean(check.advice)
        if self._console is not None:
            _show_in_colour(self._console, check, seen, advice)
            return
        texts = seen.splitlines() or [""]
        texts += [f"{_ARROW}{text}" for text in advice.splitlines()]
        for i, text in enumerate(texts):
            mark, name = (_MARKS[check.status], check.name) if i == 0 else ("", "")
            line = f"{mark:<{_MARK_WIDTH}}  {clean(name):<{_NAME_WIDTH}}  {text}".rstrip()
            print(line, file=self._stream, flush=True)

    def sum_up(self, report: Report) -> None:
        """How many lines of each kind there were."""
        counts = dict.fromkeys(Status, 0)
        for check in report.checks:
            counts[check.status] += 1
        warnings = _plural(counts[Status.WARNING], "warning")
        failures = _plural(counts[Status.FAILURE], "failure")
        checks = _plural(len(report.checks), "check")
        text = f"{checks}: {counts[Status.OK]} ok, {warnings}, {failures}"
        print(text, file=self._stream, flush=True)


def clean(text: str) -> str:
    """`text` without characters that steer a terminal; line breaks stay.

    What another box, a device or a file says must not move the cursor or hide a line.
    """
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", shown)


def _show_in_colour(console: Console, check: Check, seen: str, advice: str) -> None:
    from rich.table import Table
    from rich.text import Text

    style = _STYLES[check.status]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=_MARK_WIDTH)
    grid.add_column(width=_NAME_WIDTH)
    grid.add_column(overflow="fold")
    grid.add_row(Text(_MARKS[check.status], style), Text(clean(check.name)), Text(seen))
    if advice:
        grid.add_row("", "", Text(_ARROW + advice, "italic"))
    console.print(grid)


def _console(stream: TextIO) -> Console:
    # Imported here: without a terminal the command does without.
    from rich.console import Console

    return Console(file=stream, highlight=False, emoji=False)


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
