"""Synthetic speech: espeak-ng (Mandarin by pinyin, English accents) and flite."""

from __future__ import annotations

import functools
import multiprocessing
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import foreign, vocabulary, voices
from .clips import Audio, Clip, ClipSet, read_audio, to_int16, trim, write

# Voices that never take part in training (see docs/models.md).
KEPT_OUT_VARIANTS = [
    "Andy", "f4", "m5", "klatt3", "linda", "steph2", "Hugo", "norbert", "robosoft4", "victor",
    "Alicia", "grandma", "pablo", "boris",
]  # fmt: skip
KEPT_OUT_FLITE = ["slt"]
TRAIN_FLITE = ["kal16", "awb", "rms"]
# Variants that are hardly speech.
_UNUSABLE = {"fast", "whisper", "whisperf", "Demonic", "UniRobot", "Tweaky", "announcer"}
_ACCENTS = [
    "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc",
    "en-gb-x-gbclan", "en-gb-x-gbcwmd",
]  # fmt: skip
_FOREIGN_VOICES = ["de", "fr-fr", "es", "it", "pt-br", "nl", "pl", "sv", "tr", "id"]

# Sizes of the kept-out sets, and of the training set.
HELDOUT = {"zh": 250, "en": 200, "slt": 150}
TRAIN_SIZE = 48000
PARTS = 6


@functools.cache
def train_variants() -> list[str]:
    """espeak-ng's voice variants that training may use, as this machine has them."""
    listing = subprocess.run(
        ["espeak-ng", "--voices=variant"], check=True, capture_output=True, text=True
    ).stdout
    names = {line.split("!v/")[1].split("  ")[0].strip() for line in listing.splitlines()[1:]}
    return sorted(names - set(KEPT_OUT_VARIANTS) - _UNUSABLE)


def _run(command: list[str], wav: Path) -> Audio:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return read_audio(wav)


def espeak(
    text: str, voice: str, variant: str, rng: random.Random, wav: Path, path: Path | None = None
) -> Audio:
    """Speak with espeak-ng at a random speed, pitch and word gap; `path` holds invented voices."""
    return _run(
        [
            "espeak-ng", *([] if path is None else ["--path", str(path)]),
            "-v", f"{voice}+{variant}" if variant else voice,
            "-s", str(rng.randint(110, 230)), "-p", str(rng.randint(15, 85)),
            "-g", str(rng.choice([0, 0, 1, 2, 4])), "-w", str(wav), text,
        ],
        wav,
    )  # fmt: skip


def flite(text: str, voice: str, rng: random.Random, wav: Path) -> Audio:
    """Speak with flite at a random speed and pitch."""
    return _run(
        [
            "flite", "-voice", voice,
            "--setf", f"duration_stretch={rng.uniform(0.75, 1.35):.2f}",
            "--setf", f"int_f0_target_mean={rng.uniform(85, 220):.0f}",
            "-t", text, "-o", str(wav),
        ],
        wav,
    )  # fmt: skip


def _speak_heldout(rng: random.Random, split: str, wav: Path) -> tuple[Clip, Audio]:
    """A kept-out voice. The order of the draws fixes the test sets: leave it."""
    lang = "zh" if split == "zh" else "en"
    kind, text = (vocabulary.sample_zh if lang == "zh" else vocabulary.sample_en)(rng)
    tokens = tuple(vocabulary.tokens_of(text))
    if split == "slt":
        voice = rng.choice(KEPT_OUT_FLITE)
        return Clip(text, tokens, f"flite-{voice}", lang, kind), flite(text, voice, rng, wav)
    variant = rng.choice(KEPT_OUT_VARIANTS)
    base = "cmn-latn-pinyin" if lang == "zh" else rng.choice(_ACCENTS)
    spoken = vocabulary.pinyin_of(list(tokens), rng) if lang == "zh" else text
    clip = Clip(text, tokens, f"{base}+{variant}", lang, kind)
    return clip, espeak(spoken, base, variant, rng, wav)


def _voice(
    rng: random.Random, text: str, base: str, wav: Path, invented: Path | None
) -> tuple[str, Audio]:
    """espeak-ng in a listed or an invented voice."""
    if invented is not None and rng.random() < 0.5:
        variant = rng.choice(voices.NAMES)
        return f"{base}+{variant}", espeak(text, base, variant, rng, wav, invented)
    variant = rng.choice([*train_variants(), "", ""])
    return f"{base}+{variant}", espeak(text, base, variant, rng, wav)


def _speak(
    rng: random.Random, lang: str, engine: str, wav: Path, invented: Path | None
) -> tuple[Clip, Audio]:
    kind, text = (vocabulary.sample_more_zh if lang == "zh" else vocabulary.sample_more_en)(rng)
    tokens = tuple(vocabulary.tokens_of(text))
    if engine == "flite":
        voice = rng.choice(TRAIN_FLITE)
        return Clip(text, tokens, f"flite-{voice}", lang, kind), flite(text, voice, rng, wav)
    base = "cmn-latn-pinyin" if lang == "zh" else rng.choice(_ACCENTS)
    spoken = vocabulary.pinyin_of(list(tokens), rng) if lang == "zh" else text
    voice, audio = _voice(rng, spoken, base, wav, invented)
    return Clip(text, tokens, voice, lang, kind), audio


def _speak_foreign(rng: random.Random, wav: Path, invented: Path | None) -> tuple[Clip, Audio]:
    """Speech outside the vocabulary; its transcript is empty."""
    lang = rng.choice(["zh", "zh", "en", "en", "other"])
    if rng.random() < 0.25:
        text = vocabulary.FOREIGN["zh" if lang == "zh" else "en"](rng)
    else:
        text = foreign.mandarin(rng) if lang == "zh" else foreign.english(rng)
    if lang == "en" and rng.random() < 0.4:
        voice = rng.choice(TRAIN_FLITE)
        return Clip("", (), f"flite-{voice}", lang, "foreign"), flite(text, voice, rng, wav)
    choices = {"zh": ["cmn-latn-pinyin"], "en": _ACCENTS, "other": _FOREIGN_VOICES}
    voice, audio = _voice(rng, text, rng.choice(choices[lang]), wav, invented)
    return Clip("", (), voice, lang, "foreign"), audio


def _speak_for_training(rng: random.Random, wav: Path, invented: Path | None) -> tuple[Clip, Audio]:
    draw = rng.random()
    if draw < 0.13:
        return _speak_foreign(rng, wav, invented)
    if draw < 0.40:
        return _speak(rng, "zh", "espeak", wav, invented)
    return _speak(rng, "en", "espeak" if draw < 0.78 else "flite", wav, invented)


@dataclass(frozen=True)
class _Job:
    split: str
    seed: int
    index: int
    invented: Path | None


def _run_job(job: _Job) -> tuple[Clip, NDArray[np.int16]] | None:
    rng = random.Random(f"{job.split}/{job.seed}/{job.index}")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        wav = Path(tmp) / "a.wav"
        try:
            if job.split in HELDOUT:
                clip, audio = _speak_heldout(rng, job.split, wav)
            else:
                clip, audio = _speak_for_training(rng, wav, job.invented)
        except (subprocess.CalledProcessError, OSError):
            return None
    if len(audio) < 1600 or np.abs(audio).max() < 1e-3:
        return None
    return clip, to_int16(trim(audio), peak=0.7)


def _synthesise(
    split: str, count: int, seed: int, processes: int, invented: Path | None
) -> Iterator[tuple]:
    jobs = (_Job(split, seed, index, invented) for index in range(count))
    with multiprocessing.Pool(processes) as pool:
        yield from (item for item in pool.imap(_run_job, jobs, chunksize=16) if item)


def build(folder: Path, seed: int, size: int = TRAIN_SIZE, processes: int = 2) -> None:
    """Write the kept-out sets zh, en, slt and the parts of the training set into `folder`."""
    invented = voices.make(folder / "voices", seed) if size else None
    parts = {f"train-{part}": size // PARTS for part in range(PARTS)} if size else {}
    for split, count in (HELDOUT | parts).items():
        if (folder / f"{split}.jsonl").exists():
            continue
        made = _synthesise(split, count, seed, processes, invented)
        stored: ClipSet = write(folder / split, made)
        print(f"corpus {split}: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
