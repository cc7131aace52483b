"""Real speech that both sides read, always the same and in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from agent.types import SAMPLE_RATE, Float32, Int16

_SAMPLES = ("asr_example.wav", "jfk.wav", "vosk_digits_en.wav", "b_cn_16k.wav")
_WORDS = 20
_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Clip:
    """A piece of audio at 16 kHz."""

    name: str
    samples: Int16

    @property
    def wave(self) -> Float32:
        """As FunASR takes it: the same numbers in -1 to 1, exactly."""
        return self.samples.astype(np.float32) / np.float32(_FULL_SCALE)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def speech(audio: Path) -> list[Clip]:
    """Sentences of `samples` and `aishell`, then single words of `dspspeech`: about three minutes,
    Mandarin and English, 1.4 to 11 s each."""
    words = sorted((audio / "dspspeech").glob("spk*/*-01.flac"))
    return [
        *(read_clip(audio / "samples" / name) for name in _SAMPLES),
        *(read_clip(path) for path in sorted((audio / "aishell").glob("*.flac"))),
        *(read_clip(path) for path in words[:: max(1, len(words) // _WORDS)][:_WORDS]),
    ]


def some(clips: Sequence[Clip], seconds: float) -> list[Clip]:
    """The first clips that are `seconds` long together."""
    kept: list[Clip] = []
    for clip in clips:
        if sum(c.seconds for c in kept) >= seconds:
            break
        kept.append(clip)
    return kept


def seconds(clips: Sequence[Clip]) -> float:
    """Of all of them together."""
    return sum(clip.seconds for clip in clips)


def long_audio(audio: Path) -> list[Clip]:
    """Minutes of speech with pauses, once clean, twice under noise, and once with every sentence at
    a level of its own."""
    sentences = [read_clip(path).samples for path in sorted((audio / "aishell").glob("*.flac"))]
    clean = _joined(sentences, np.random.default_rng(1))
    noises = [read_clip(path).samples for path in _noises(audio)]
    rng = np.random.default_rng(2)
    levelled = [
        np.clip(s * g, -32768, 32767).astype(np.int16)
        for s, g in zip(sentences, _gains(rng), strict=False)
    ]
    return [
        Clip("published vad_example", read_clip(audio / "samples" / "vad_example.wav").samples),
        Clip("24 sentences", clean),
        Clip("24 sentences in weak noise", _under(clean, noises, 0.1)),
        Clip("24 sentences in strong noise", _under(clean, noises, 0.6)),
        Clip("24 sentences at changing levels", _joined(levelled, rng)),
    ]


def cuts(length: int, rng: np.random.Generator, shortest: int, longest: int) -> Iterator[slice]:
    """Random pieces that cover 0..length; none is shorter than `shortest`."""
    at = 0
    while at < length:
        size = int(rng.integers(shortest, longest))
        behind = length if length - at - size < shortest else at + size
        yield slice(at, behind)
        at = behind


def read_clip(path: Path) -> Clip:
    """The first channel of a file, at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    mono = np.ascontiguousarray(samples[:, 0])
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.int16)
    return Clip(f"{path.parent.name}/{path.name}", mono)


def _joined(sentences: Sequence[Int16], rng: np.random.Generator) -> Int16:
    """With pauses of 0.1 to 2.5 s of faint noise between them."""
    parts: list[Int16] = []
    for sentence in sentences:
        pause = int(rng.integers(SAMPLE_RATE // 10, 5 * SAMPLE_RATE // 2))
        parts += [(rng.standard_normal(pause) * 8).astype(np.int16), sentence]
    return np.concatenate(parts)


def _under(clean: Int16, noises: Sequence[Int16], level: float) -> Int16:
    noise = np.resize(np.concatenate(noises), len(clean))
    return np.clip(clean + level * noise, -32768, 32767).astype(np.int16)


def _noises(audio: Path) -> list[Path]:
    """One of each kind."""
    folders = sorted(p for p in (audio / "noise-esc10").iterdir() if p.is_dir())
    return [sorted(p for p in folder.iterdir() if p.suffix == ".ogg")[0] for folder in folders]


def _gains(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield float(10 ** rng.uniform(-1.5, 0.3))
