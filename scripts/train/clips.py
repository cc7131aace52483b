"""A set of labelled clips on disk: one flat int16 array and one JSON line a clip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16000
Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """What is known about one clip; `tokens` is empty for speech that must give no text."""

    text: str
    tokens: tuple[str, ...]
    voice: str
    lang: str
    kind: str


def read_audio(path: Path | str) -> Audio:
    """Read any audio file as mono float32 at 16 kHz."""
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE).astype(np.float32)


def trim(audio: Audio, before: float = 0.05, after: float = 0.1, floor: float = 0.01) -> Audio:
    """Cut leading and trailing silence (below `floor` of the peak) but for small margins."""
    loud = np.flatnonzero(np.abs(audio) > floor * np.abs(audio).max())
    if loud.size == 0:
        return audio[:0]
    return audio[max(0, loud[0] - int(before * RATE)) : loud[-1] + int(after * RATE)]


def to_int16(audio: Audio, peak: float | None = None) -> NDArray[np.int16]:
    """Convert to int16, scaled to `peak` (of full scale) where it is given."""
    if peak is not None:
        audio = audio * (peak / max(1e-6, float(np.abs(audio).max())))
    return np.clip(np.round(audio * 32767), -32768, 32767).astype(np.int16)


class ClipSet:
    """Random access to a stored set of clips."""

    def __init__(self, path: Path) -> None:
        """Open the set that `write` made at `path` (without suffix)."""
        self._audio = np.load(path.with_suffix(".npy"), mmap_mode="r")
        self.clips: list[Clip] = []
        self._spans: list[tuple[int, int]] = []
        for line in path.with_suffix(".jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            start, length = row.pop("span")
            row["tokens"] = tuple(row["tokens"])
            self.clips.append(Clip(**row))
            self._spans.append((start, length))

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def audio(self, index: int) -> Audio:
        """Return a clip's samples as float32 in -1..1."""
        start, length = self._spans[index]
        return self._audio[start : start + length].astype(np.float32) / 32768.0

    def __iter__(self) -> Iterator[tuple[Clip, Audio]]:
        """Iterate over (clip, samples)."""
        return ((clip, self.audio(index)) for index, clip in enumerate(self.clips))

    @property
    def hours(self) -> float:
        """Total length in hours."""
        return len(self._audio) / RATE / 3600


def write(path: Path, items: Iterable[tuple[Clip, NDArray[np.int16]]]) -> ClipSet:
    """Store clips at `path` (without suffix) and return the opened set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts: list[NDArray[np.int16]] = []
    lines: list[str] = []
    start = 0
    for clip, samples in items:
        parts.append(samples)
        row = asdict(clip) | {"span": [start, len(samples)]}
        lines.append(json.dumps(row, ensure_ascii=False))
        start += len(samples)
    np.save(path.with_suffix(".npy"), np.concatenate(parts) if parts else np.zeros(0, np.int16))
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return ClipSet(path)
