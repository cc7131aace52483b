"""What is scored: kept-out voices and people, speech outside the vocabulary, noise."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from agent.types import Int16
from scripts.train import augment, corpus, human, vocabulary
from scripts.train.clips import RATE, Audio, ClipSet, read_audio

LEAD, TRAIL = 0.4, 0.6
"""Seconds of silence around a synthetic clip, as scripts/train/heldout has them."""
GAP = 1.25
STRINGS = 60
SPEAKER, WORD_SPEAKERS = "lucas", ("spk26", "spk27", "spk28")


@dataclass(frozen=True)
class Item:
    """A recording and the tokens that it says."""

    name: str
    samples: Int16
    tokens: tuple[str, ...]
    kind: str = "all"


def to_samples(audio: Audio) -> Int16:
    """16-bit samples of -1..1."""
    return np.clip(np.round(audio * 32767), -32768, 32767).astype(np.int16)


def synthetic(work: Path, seed: int = 1) -> dict[str, ClipSet]:
    """The kept-out voices by set (zh, en, slt), spoken where they are not there yet."""
    if not (shutil.which("espeak-ng") and shutil.which("flite")):
        return {}
    corpus.build(work, seed, size=0)
    return {name: ClipSet(work / name) for name in corpus.HELDOUT}


def spoken(clips: ClipSet, trail: float = TRAIL) -> Iterator[Item]:
    """The clips with silence around."""
    for index, (clip, audio) in enumerate(clips):
        padded = np.pad(audio, (int(LEAD * RATE), int(trail * RATE)))
        yield Item(f"{index:03}", to_samples(padded), clip.tokens, clip.kind)


def in_a_row(clips: ClipSet, gap: float = GAP) -> Iterator[Item]:
    """Two commands in one stream with a pause between: the detector cuts the first one close."""
    commands = [(clip, audio) for clip, audio in clips if clip.kind == "command"]
    for index in range(0, len(commands) - 1, 2):
        (first, one), (second, two) = commands[index : index + 2]
        pieces = [np.zeros(int(LEAD * RATE)), one, np.zeros(int(gap * RATE)), two]
        audio = np.concatenate([*pieces, np.zeros(int(gap * RATE))]).astype(np.float32)
        yield Item(f"{index:03}", to_samples(audio), first.tokens + second.tokens)


def with_noise(clips: ClipSet, pool: augment.NoisePool, snr_db: float = 10.0) -> Iterator[Item]:
    """The clips at a signal-to-noise ratio, the noise reaching over the silence around."""
    for index, (clip, audio) in enumerate(clips):
        rng = np.random.default_rng([11, index])
        padded = np.pad(audio, (int(LEAD * RATE), int(TRAIL * RATE)))
        noise = pool.draw(rng, len(padded)) * (audio.std() * 10 ** (-snr_db / 20))
        loud = padded + noise
        yield Item(
            f"{index:03}",
            to_samples(loud / max(1.0, float(np.abs(loud).max()))),
            clip.tokens,
            clip.kind,
        )


def _rows(folder: Path) -> Iterator[tuple[Path, str, str]]:
    for path, speaker, _, text in human.rows(folder):
        yield path, speaker, text


def digits(data: Path) -> Iterator[Item]:
    """FSDD's kept-out speaker, digit by digit."""
    for path, speaker, text in _rows(data / "fsdd"):
        if speaker == SPEAKER:
            yield Item(path.name, to_samples(read_audio(path)), (text,))


def digit_strings(data: Path) -> Iterator[Item]:
    """The same speaker's digits joined to strings of two to five."""
    rng = Random("strings")
    words = [
        (text, read_audio(p)) for p, speaker, text in _rows(data / "fsdd") if speaker == SPEAKER
    ]
    for index in range(STRINGS):
        parts = [rng.choice(words) for _ in range(rng.randint(2, 5))]
        pieces: list[Audio] = [np.zeros(int(0.3 * RATE), np.float32)]
        for _, audio in parts:
            scaled = audio * (0.7 / max(1e-3, float(np.abs(audio).max())))
            pieces += [scaled, np.zeros(int(rng.uniform(0.02, 0.25) * RATE), np.float32)]
        tokens = tuple(text for text, _ in parts)
        yield Item(f"string-{index}", to_samples(np.concatenate(pieces)), tokens)


def words(data: Path) -> Iterator[Item]:
    """DSPSpeech's kept-out speakers."""
    for path, speaker, text in _rows(data / "dspspeech"):
        if speaker in WORD_SPEAKERS:
            tokens = tuple(vocabulary.tokens_of(text))
            kind = "en" if text.isascii() else "zh"
            yield Item(f"{speaker}/{path.name}", to_samples(read_audio(path)), tokens, kind)


def open_speech(data: Path) -> Iterator[Item]:
    """Mandarin sentences outside the vocabulary."""
    for path in sorted((data / "aishell").glob("*.flac")):
        yield Item(path.name, to_samples(read_audio(path)), ())


def noises(data: Path) -> Iterator[Item]:
    """Recorded sounds without speech; kind "kept out" marks those that training never heard."""
    for path in sorted((data / "noise-esc10").glob("*/*.ogg")):
        kind = "kept out" if path.name.startswith("3-") else "heard in training"
        yield Item(f"{path.parent.name}/{path.name}", to_samples(read_audio(path)), (), kind)


def real_speech(data: Path) -> dict[str, Int16]:
    """Human recordings on which two detectors are compared."""
    files = [*sorted((data / "samples").glob("*.wav")), *sorted((data / "aishell").glob("*.flac"))]
    return {path.name: to_samples(read_audio(path)) for path in files}


def by_kind(items: list[Item]) -> dict[str, list[int]]:
    """Indices of the items of each kind."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        found[item.kind].append(index)
    return dict(found)
