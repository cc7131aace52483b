"""Boxes made of files: trees of /proc, /sys and /dev, and commands that answer as told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.doctor.box import Box, Outcome
from agent.doctor.report import Check

NOT_THERE = Outcome(None, stderr="not found")


@dataclass
class Commands:
    """A `RunCommand` that answers by the command's first word, or by a part of Python code."""

    answers: Mapping[str, Outcome] = field(default_factory=dict)
    ran: list[Sequence[str]] = field(default_factory=list)

    def __call__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Outcome:
        self.ran.append(command)
        for key, outcome in self.answers.items():
            if command[0] == key or (command[1] == "-c" and key in command[2]):
                return outcome
        return NOT_THERE


def box_of(root: Path, files: Mapping[str, str] | None = None, **answers: Outcome) -> Box:
    """A box whose files are `files` (path -> text) and whose commands give `answers`."""
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Box(root=root, run=Commands(answers))


def answering(box: Box, answers: Mapping[str, Outcome]) -> Box:
    """The same box with other answers of its commands."""
    return replace(box, run=Commands(answers))


def line(checks: Sequence[Check]) -> tuple[str, str, str]:
    """Status, what was seen and the advice of the only line."""
    assert len(checks) == 1
    return checks[0].status.value, checks[0].seen, checks[0].advice
