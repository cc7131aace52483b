"""Human recordings for training and tests: FSDD (English digits) and DSPSpeech-20 (words)."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import vocabulary
from .clips import RATE, Audio, Clip, read_audio, to_int16, write

# Speakers that a leave-some-out evaluation keeps out of training.
FSDD_OUT = {"lucas"}
DSPSPEECH_OUT = {"spk26", "spk27", "spk28"}
_STRINGS_PER_SPEAKER = 700
_TEST_STRINGS = 60
_PAIRS = 1500
_NONSENSE = 1500


def rows(folder: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield (file, speaker, lang, text) of a folder with transcripts.tsv."""
    with (folder / "transcripts.tsv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            yield folder / row["file"], row["speaker"], row["lang"], row["text"].lower()


def _clip(text: str, voice: str, lang: str, kind: str) -> Clip:
    return Clip(text, tuple(vocabulary.tokens_of(text)), voice, lang, kind)


def joined(parts: list[tuple[str, Audio]], rng: random.Random) -> tuple[str, Audio]:
    """Join single words of a speaker with short gaps."""
    pieces: list[Audio] = []
    for _, audio in parts:
        pieces += [audio, np.zeros(int(rng.uniform(0.02, 0.25) * RATE), np.float32)]
    return " ".join(text for text, _ in parts), np.concatenate(pieces)


Item = tuple[Clip, NDArray[np.int16]]


def _fsdd(folder: Path, rng: random.Random) -> dict[str, list[Item]]:
    """FSDD: digits alone and joined to strings, per speaker."""
    words: dict[str, list[tuple[str, Audio]]] = defaultdict(list)
    for path, speaker, _, text in rows(folder):
        audio = read_audio(path)
        words[speaker].append((text, audio * (0.7 / max(1e-3, float(np.abs(audio).max())))))
    sets: dict[str, list[Item]] = {"train": [], "fsdd": [], "fsdd-strings": []}
    for speaker, items in sorted(words.items()):
        voice = f"fsdd-{speaker}"
        if speaker in FSDD_OUT:
            for text, audio in items[::3]:
                sets["fsdd"].append((_clip(text, voice, "en", "digits"), to_int16(audio)))
            counts = [rng.randint(2, 5) for _ in range(_TEST_STRINGS)]
        else:
            counts = [rng.choice([1, 1, 1, 2, 3, 4, 5]) for _ in range(_STRINGS_PER_SPEAKER)]
        name = "fsdd-strings" if speaker in FSDD_OUT else "train"
        for count in counts:
            text, audio = joined([rng.choice(items) for _ in range(count)], rng)
            sets[name].append((_clip(text, voice, "en", "digits"), to_int16(audio)))
    return sets


def _dspspeech(folder: Path, rng: random.Random) -> dict[str, list[Item]]:
    """DSPSpeech-20: Mandarin and English words, and pairs of them in training."""
    words: dict[str, list[tuple[str, str, Audio]]] = defaultdict(list)
    sets: dict[str, list[Item]] = {"train": [], "dspspeech": []}
    for path, speaker, lang, text in rows(folder):
        audio = read_audio(path)
        kept_out = speaker in DSPSPEECH_OUT
        clip = _clip(text, f"dsp-{speaker}", lang, "human-word")
        sets["dspspeech" if kept_out else "train"].append((clip, to_int16(audio, peak=0.7)))
        if not kept_out:
            words[speaker].append((lang, text, audio))
    speakers = sorted(words)
    for _ in range(_PAIRS):
        speaker = rng.choice(speakers)
        lang = rng.choice(["zh", "zh", "en"])
        same = [(text, audio) for word_lang, text, audio in words[speaker] if word_lang == lang]
        text, audio = joined(rng.sample(same, 2), rng)
        if lang == "zh":
            text = text.replace(" ", "")
        clip = _clip(text, f"dsp-{speaker}", lang, "human-word")
        sets["train"].append((clip, to_int16(audio, peak=0.7)))
    return sets


def _nonsense(items: list[Item], rng: random.Random) -> list[Item]:
    """Human voices that say nothing: words of a speaker, backwards or cut up and shuffled."""
    voices: dict[str, list[Audio]] = defaultdict(list)
    for clip, samples in items:
        voices[clip.voice].append(samples.astype(np.float32) / 32768)
    names = sorted(voices)
    found: list[Item] = []
    for _ in range(_NONSENSE):
        voice = rng.choice(names)
        parts = [audio[::-1] for audio in rng.choices(voices[voice], k=rng.randint(2, 5))]
        if rng.random() < 0.5:
            whole = np.concatenate(parts)
            size = int(rng.uniform(0.1, 0.25) * RATE)
            parts = [whole[at : at + size] for at in range(0, len(whole), size)]
            rng.shuffle(parts)
            fade = np.minimum(1.0, np.arange(size) / (0.01 * RATE))
            parts = [p * fade[: len(p)] * fade[: len(p)][::-1] for p in parts]
        audio = np.concatenate(parts)[: 6 * RATE].astype(np.float32)
        found.append((_clip("", voice, "other", "foreign"), to_int16(audio, peak=0.7)))
    return found


def build(data: Path | None, folder: Path, seed: int) -> bool:
    """Write human-train and the kept-out sets into `folder`; say so when there is no data."""
    rng = random.Random(f"human/{seed}")
    found: dict[str, list[Item]] = {}
    for name, reader in (("fsdd", _fsdd), ("dspspeech", _dspspeech)):
        if data is None or not (data / name / "transcripts.tsv").exists():
            print(f"human: no {name} under {data}: skipped", flush=True)
            continue
        for split, items in reader(data / name, rng).items():
            found.setdefault("human-train" if split == "train" else split, []).extend(items)
    if "human-train" in found:
        found["human-train"] += _nonsense(found["human-train"], rng)
    for split, items in found.items():
        if not (folder / f"{split}.jsonl").exists():
            stored = write(folder / split, items)
            print(f"human {split}: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
    return bool(found)
