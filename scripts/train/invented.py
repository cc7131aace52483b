"""Few people, many speakers: words of the human recordings, said by people between and beside them.

A word is taken from one person, or from between two, and given to a speaker of its own
(revoice.py); strings of words keep their speaker.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import revoice, vocabulary
from .clips import RATE, Audio, Clip, ClipSet, to_int16, trim, write
from .human import joined

SIZE = 10000
_SOURCES = ("human-train", "more-train")
_BETWEEN = 0.5  # Share of the words that two people say together.
_SHARES = {"digits": 0.66, "english": 0.22, "mandarin": 0.12}
_CONNECTED = 0.5  # Share of the strings that are said in one breath.
_OVERLAP_S = (0.0, 0.06)
_LONGEST_S = 3.2  # Longer ones are no single word.

Place = tuple[str, int]
"""A set and a clip in it."""


class People:
    """Who said what: recordings of single words by word and speaker."""

    def __init__(self, corpus: Path) -> None:
        """Index the human sets of `corpus`; copies of a recording count once."""
        self._sets = {
            name: ClipSet(corpus / name) for name in _SOURCES if (corpus / f"{name}.jsonl").exists()
        }
        self.said: dict[str, dict[str, list[Place]]] = defaultdict(lambda: defaultdict(list))
        known = set(vocabulary.HUMAN_ZH)
        copies: set[tuple[str, str, int]] = set()
        for name, clips in self._sets.items():
            for index, clip in enumerate(clips.clips):
                single = len(clip.tokens) == 1 if clip.lang == "en" else clip.text in known
                length = len(clips.audio(index))
                if not single or length > _LONGEST_S * RATE:
                    continue
                if (clip.voice, clip.text, length) not in copies:
                    copies.add((clip.voice, clip.text, length))
                    self.said[clip.text][clip.voice].append((name, index))

    @functools.lru_cache(maxsize=600)  # noqa: B019  (one object a process, for its whole life)
    def parts(self, place: Place) -> revoice.Parts:
        """A recording taken apart."""
        name, index = place
        return revoice.analyse(trim(self._sets[name].audio(index), 0.03, 0.05, 0.02))


_people: People | None = None


def _word(
    people: People, word: str, voices: list[str], share: float, rng: random.Random
) -> revoice.Parts:
    """A word as one of `voices` said it, or as somebody between the two does."""
    parts = [people.parts(rng.choice(people.said[word][voice])) for voice in voices]
    return parts[0] if len(parts) == 1 else revoice.between(parts[0], parts[1], share)


def _words(people: People, rng: random.Random) -> list[str]:
    kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    if kind == "digits":
        choices = [word for word in vocabulary.DIGITS_EN if word in people.said]
        count = rng.choice([1, 1, 1, 2, 3, 4, 5])
    else:
        digits = set(vocabulary.DIGITS_EN)
        english = kind == "english"
        choices = sorted(w for w in people.said if w.isascii() == english and w not in digits)
        count = rng.choice([1, 1, 1, 2])
    return [rng.choice(choices) for _ in range(count)] if choices else []


def connected(parts: list[tuple[str, Audio]], rng: random.Random) -> tuple[str, Audio]:
    """Join single words of a speaker as one breath: each begins before the last one is over."""
    whole = np.zeros(0, np.float32)
    for _, audio in parts:
        word = trim(audio, 0.0, 0.0, rng.uniform(0.03, 0.1))
        shared = min(int(rng.uniform(*_OVERLAP_S) * RATE), len(whole), len(word))
        fade = np.linspace(0, 1, shared, dtype=np.float32)
        both = whole[len(whole) - shared :] * (1 - fade) + word[:shared] * fade
        whole = np.concatenate([whole[: len(whole) - shared], both, word[shared:]])
    return " ".join(text for text, _ in parts), whole


def _job(item: tuple[int, int]) -> tuple[Clip, NDArray[np.int16]] | None:
    people = _people
    assert people is not None
    seed, index = item
    rng = random.Random(f"invented/{seed}/{index}")
    words = _words(people, rng)
    # Whoever speaks must have said all of the words.
    able = [set(people.said[word]) for word in words]
    speakers = sorted(set.intersection(*able)) if able else []
    if not speakers:
        return None
    voices = [rng.choice(speakers)]
    if rng.random() < _BETWEEN and len(speakers) > 1:
        voices.append(rng.choice([voice for voice in speakers if voice != voices[0]]))
    share, who = rng.uniform(0.2, 0.8), revoice.likeness(rng)
    said = [(word, revoice.speak(_word(people, word, voices, share, rng), who)) for word in words]
    said = [(word, audio / max(1e-6, float(np.abs(audio).max()))) for word, audio in said]
    text, audio = (connected if rng.random() < _CONNECTED else joined)(said, rng)
    english = text.isascii()
    text = text if english else text.replace(" ", "")
    clip = Clip(
        text,
        tuple(vocabulary.tokens_of(text)),
        "+".join(voices),
        "en" if english else "zh",
        "digits" if words[0] in vocabulary.DIGITS_EN else "human-word",
    )
    return clip, to_int16(trim(audio, 0.02, 0.04), peak=0.7)


def _items(seed: int, size: int, processes: int) -> Iterator[tuple[Clip, NDArray[np.int16]]]:
    jobs = ((seed, index) for index in range(size))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from (item for item in pool.imap(_job, jobs, chunksize=16) if item)


def build(corpus: Path, seed: int, size: int = SIZE, processes: int = 2) -> None:
    """Write `invented-train` into `corpus` where it has human recordings."""
    global _people
    target = corpus / "invented-train"
    if target.with_suffix(".jsonl").exists():
        return
    _people = People(corpus)
    if not _people.said:
        print("corpus invented-train: no human recordings: skipped", flush=True)
        return
    stored = write(target, _items(seed, size, processes))
    print(f"corpus invented-train: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
