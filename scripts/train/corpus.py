"""Synthetic speech: espeak-ng (Mandarin by pinyin, English accents) and flite."""

from __future__ import annotations

import functools
import multiprocessing
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import vocabulary
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
TRAIN_SIZE = 12000


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


def espeak(text: str, voice: str, variant: str, rng: random.Random, wav: Path) -> Audio:
    """Speak with espeak-ng at a random speed, pitch and word gap."""
    return _run(
        [
            "espeak-ng", "-v", f"{voice}+{variant}" if variant else voice,
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


def _speak(rng: random.Random, lang: str, engine: str, heldout: bool, wav: Path) -> tuple:
    kind, text = (vocabulary.sample_zh if lang == "zh" else vocabulary.sample_en)(rng)
    tokens = vocabulary.tokens_of(text)
    if engine == "flite":
        voice = rng.choice(KEPT_OUT_FLITE if heldout else TRAIN_FLITE)
        return Clip(text, tuple(tokens), f"flite-{voice}", lang, kind), flite(text, voice, rng, wav)
    variant = rng.choice(KEPT_OUT_VARIANTS if heldout else [*train_variants(), "", ""])
    base = "cmn-latn-pinyin" if lang == "zh" else rng.choice(_ACCENTS)
    spoken = vocabulary.pinyin_of(tokens, rng) if lang == "zh" else text
    clip = Clip(text, tuple(tokens), f"{base}+{variant}", lang, kind)
    return clip, espeak(spoken, base, variant, rng, wav)


def _speak_foreign(rng: random.Random, wav: Path) -> tuple:
    """Speech outside the vocabulary; its transcript is empty."""
    lang = rng.choice(["zh", "en", "en", "other"])
    text = vocabulary.FOREIGN["zh" if lang == "zh" else "en"](rng)
    if lang == "en" and rng.random() < 0.4:
        voice = rng.choice(TRAIN_FLITE)
        return Clip("", (), f"flite-{voice}", lang, "foreign"), flite(text, voice, rng, wav)
    choices = {"zh": ["cmn-latn-pinyin"], "en": _ACCENTS, "other": _FOREIGN_VOICES}
    base, variant = rng.choice(choices[lang]), rng.choice(train_variants())
    clip = Clip("", (), f"{base}+{variant}", lang, "foreign")
    return clip, espeak(text, base, variant, rng, wav)


def _job(item: tuple[str, int, int]) -> tuple[Clip, NDArray[np.int16]] | None:
    split, seed, index = item
    rng = random.Random(f"{split}/{seed}/{index}")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        wav = Path(tmp) / "a.wav"
        try:
            if split in HELDOUT:
                engine = "flite" if split == "slt" else "espeak"
                clip, audio = _speak(rng, "zh" if split == "zh" else "en", engine, True, wav)
            else:
                draw = rng.random()
                if draw < 0.07:
                    clip, audio = _speak_foreign(rng, wav)
                elif draw < 0.57:
                    clip, audio = _speak(rng, "zh", "espeak", False, wav)
                elif draw < 0.82:
                    clip, audio = _speak(rng, "en", "espeak", False, wav)
                else:
                    clip, audio = _speak(rng, "en", "flite", False, wav)
        except (subprocess.CalledProcessError, OSError):
            return None
    if len(audio) < 1600 or np.abs(audio).max() < 1e-3:
        return None
    return clip, to_int16(trim(audio), peak=0.7)


def _synthesise(split: str, count: int, seed: int, processes: int) -> Iterator[tuple]:
    jobs = ((split, seed, index) for index in range(count))
    with multiprocessing.Pool(processes) as pool:
        yield from (item for item in pool.imap(_job, jobs, chunksize=16) if item)


def build(folder: Path, seed: int, size: int = TRAIN_SIZE, processes: int = 2) -> None:
    """Write the kept-out sets zh, en, slt and the training set `train` into `folder`."""
    for split, count in (HELDOUT | {"train": size}).items():
        if not count or (folder / f"{split}.jsonl").exists():
            continue
        stored: ClipSet = write(folder / split, _synthesise(split, count, seed, processes))
        print(f"corpus {split}: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
