"""Speech and text that weights are set from and variants are compared on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from agent.store.golden import built_in_clip
from agent.types import SAMPLE_RATE, Int16

from .side_files import TEXTS, ExportError

_FOLDERS = ("samples", "aishell")
_SUFFIXES = (".wav", ".flac")
_MOST_CLIP_S = 15
_SHORTEST_S = 1.0
_LINES_A_TEXT = 3


def read_speech(paths: Sequence[Path], most_s: float) -> list[Int16]:
    """Clips [n] at 16 kHz, about `most_s` seconds in all; the built-in clip where none is there.

    Raises ExportError for a file of another rate.
    """
    clips: list[Int16] = []
    total = 0.0
    for path in _files(paths):
        if total >= most_s:
            break
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        if rate != SAMPLE_RATE:
            if path in paths:
                raise ExportError(f"{path} has {rate} Hz; convert it to {SAMPLE_RATE} Hz")
            continue
        clip = np.ascontiguousarray(samples[: _MOST_CLIP_S * SAMPLE_RATE, 0])
        if len(clip) >= _SHORTEST_S * SAMPLE_RATE:
            clips.append(clip)
            total += len(clip) / SAMPLE_RATE
    return clips or [built_in_clip()]


def read_texts(paths: Sequence[Path]) -> list[str]:
    """Texts without marks: a few of our own, and those of transcripts.tsv beside the audio."""
    texts = list(TEXTS)
    for path in paths:
        for table in sorted(path.rglob("transcripts.tsv")) if path.is_dir() else ():
            rows = (line.split("\t") for line in table.read_text("utf-8").splitlines()[1:])
            lines = [row[3] for row in rows if len(row) > 3 and len(row[3]) > 6]
            lines = [line for line in lines if not line.isascii()][:60]
            texts += ["".join(lines[i : i + _LINES_A_TEXT]) for i in range(0, len(lines), 3)]
    return texts


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            folders = [path / name for name in _FOLDERS if (path / name).is_dir()] or [path]
            for folder in folders:
                yield from sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES)
        else:
            yield path
