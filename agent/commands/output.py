"""What `transcribe` writes: one file's result in a format, to stdout or into a folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.commands.common import readable
from agent.joining import join_texts
from agent.subtitles import FORMATS, segments_json, to_srt, to_vtt
from agent.types import Transcript

_RTF_DIGITS = 4
_MAX_PROBLEMS = 5
"""Clashing names that are listed; a whole collection may clash."""


@dataclass(frozen=True)
class FileResult:
    """What one file came to."""

    name: str
    """As the command line names it."""
    duration_s: float
    segments: tuple[Transcript, ...]
    models: dict[str, str]
    """Role -> model id."""
    elapsed_s: float

    @property
    def rtf(self) -> float:
        """Processing time by audio time; 0 for an empty file."""
        return round(self.elapsed_s / self.duration_s, _RTF_DIGITS) if self.duration_s else 0.0


def render(result: FileResult, format_name: str) -> str:
    """The result as a document that ends with a line break (srt: empty without speech)."""
    if format_name == "srt":
        return to_srt(result.segments)
    if format_name == "vtt":
        return to_vtt(result.segments)
    text = join_texts(segment.text for segment in result.segments)
    if format_name == "text":
        return text + "\n"
    record = {
        "file": readable(result.name),
        "duration_s": result.duration_s,
        "text": text,
        "segments": segments_json(result.segments),
        "models": result.models,
        "rtf": result.rtf,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


class OutputFolder:
    """Writes each result whole or not at all, and never two inputs to one name."""

    def __init__(self, folder: Path, format_name: str) -> None:
        self.folder = folder
        self._ending = FORMATS[format_name]

    def plan(self, names: Sequence[str]) -> list[str]:
        """What would go wrong, before anything is transcribed."""
        problems = []
        taken: dict[Path, str] = {}
        inputs = {os.path.realpath(name): name for name in names}
        for name in names:
            target = self.target(name)
            if target in taken:
                problems.append(
                    f"{name} and {taken[target]} would both be written to {target}; "
                    "transcribe them into different folders"
                )
            elif os.path.realpath(target) in inputs:
                problems.append(f"{target} is an input and would be overwritten")
            taken.setdefault(target, name)
        more = len(problems) - _MAX_PROBLEMS
        return [*problems[:_MAX_PROBLEMS], *([f"and {more} more like that"] if more > 0 else [])]

    def target(self, name: str) -> Path:
        """Where the result of the input `name` goes."""
        return self.folder / f"{Path(name).stem}.{self._ending}"

    def write(self, name: str, text: str) -> None:
        """Write the result of `name`. Raises OSError; a failed write leaves what was there."""
        target = self.target(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
