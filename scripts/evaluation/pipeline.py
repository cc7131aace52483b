"""The agent's pipeline in this process: recordings to text, and detectors side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.session import Session
from agent.store.library import Library
from agent.store.manifest import read_manifest
from agent.store.model_set import load_models
from agent.types import (
    Int16,
    ModelSet,
    RecognitionMode,
    SpeechSegment,
    StreamOptions,
    Transcript,
)
from scripts.train.clips import RATE

BLOCK = RATE // 10
FRAME_MS = 10


def load(models: Path) -> ModelSet:
    """The embedded models of a folder, whichever these are: they may be ones to ship next."""
    lists: Any = {
        "vad": ["builtin-vad"],
        "asr_online": ["builtin-online"],
        "asr_offline": ["builtin-offline"],
    }
    settings = {role: EngineSettings() for role in lists}
    known = {name: read_manifest(models / name).sha256 for (name,) in lists.values()}
    library = Library(models / "none", models, embedded=known)
    return load_models(lists, library, settings).model_set()


@dataclass(frozen=True)
class Heard:
    """What one recording gave."""

    finals: tuple[str, ...]
    partials: tuple[str, ...]
    """The last partial of each segment (two passes)."""
    cpu_s: float

    @property
    def text(self) -> str:
        return " ".join(text for text in self.finals if text)


def hear(models: ModelSet, samples: Int16, mode: RecognitionMode) -> Heard:
    """Recognise one recording as `transcribe` (or a stream) does."""
    begin = time.process_time()
    session = Session(models, StreamOptions(mode=mode))
    finals: list[str] = []
    partials: dict[int, str] = {}
    items: list[Any] = []
    for start in range(0, len(samples), BLOCK):
        items += session.accept(samples[start : start + BLOCK])
    items += session.finish()
    for item in items:
        if isinstance(item, SpeechSegment):
            partials.setdefault(item.id, "")
            finals.append(session.decode(item).text)
        elif isinstance(item, Transcript) and item.is_final:
            finals.append(item.text)
        elif isinstance(item, Transcript):
            partials[item.segment_id] = item.text
    return Heard(tuple(finals), tuple(partials.values()), time.process_time() - begin)


@dataclass(frozen=True)
class _Published:
    """The published detector's folder (`agent.engine.base.ModelFiles`)."""

    folder: Path

    @property
    def model_id(self) -> str:
        return self.folder.name

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def graph(self, role: str) -> bytes:
        return self.read(f"{role}.onnx")


def published_vad(folder: Path) -> Any:
    """The detector that FunASR publishes."""
    return load_model("fsmn_vad", _Published(folder), EngineSettings())


def segments(vad: Any, samples: Int16) -> list[tuple[int, int]]:
    """Segments in ms that a detector finds."""
    stream = vad.start_stream()
    marks: list[Any] = []
    for start in range(0, len(samples), BLOCK):
        marks += stream.accept(samples[start : start + BLOCK])
    marks += stream.finish()
    found: list[tuple[int, int]] = []
    begin = -1
    for mark in marks:
        if mark.kind == "start":
            begin = mark.ms
        elif begin >= 0:
            found.append((begin, mark.ms))
            begin = -1
    if begin >= 0:
        found.append((begin, len(samples) * 1000 // RATE))
    return found


def agreement(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], samples: int
) -> tuple[int, int, int]:
    """Frames that agree, frames in all, and their segments that ours miss altogether."""
    count = samples * 1000 // RATE // FRAME_MS
    marks = [np.zeros(count, bool) for _ in range(2)]
    for mark, found in zip(marks, (ours, theirs), strict=True):
        for begin, end in found:
            mark[begin // FRAME_MS : end // FRAME_MS] = True
    lost = sum(not any(a < end and b > begin for a, b in ours) for begin, end in theirs)
    return int((marks[0] == marks[1]).sum()), count, lost
