"""More human recordings: public sets in their own layouts, each used where its folder is there.

FOLDER/free-spoken-digit-dataset/recordings/7_theo_31.wav    digits (FSDD, CC BY-SA 4.0)
FOLDER/DSPSpeech-20/speech_data/ID/ID-12-07.wav              words (DSPSpeech-20, MIT)
FOLDER/speech_commands/left/2f813234_nohash_1.wav            words (Speech Commands, CC BY 4.0)
FOLDER/audio-cmn/64k/hsk/cmn-打开.mp3, 64k/syllabs/cmn-da3.mp3    Mandarin (CC BY-SA)

and /usr/share/asterisk/sounds, prompts of five languages from Debian's asterisk-core-sounds-*-wav
(CC BY-SA 3.0, CC BY 3.0).
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from . import vocabulary
from .clips import RATE, Audio, Clip, read_audio, to_int16, trim, write
from .human import FSDD_OUT, joined

PROMPTS = Path("/usr/share/asterisk/sounds")
# Words of DSPSpeech-20 by their number in a file's name.
_WORDS = [*vocabulary.HUMAN_ZH, *"speech speaker signal process print open close project".split()]  # noqa: SIM905
# The kept-out speakers 26 to 28 (human.DSPSPEECH_OUT) as the public set names them.
_NUMBERS_OUT = {"16307130194", "16307130370", "16307130025"}
_TAKES = 10
_PAIRS = 50  # Of each person.
_STRINGS = 700
_SENTENCES = 2000
# How often a recording is taken; each time it is augmented anew.
_COMMAND_COPIES, _WORD_COPIES, _PROMPT_COPIES = 6, 3, 20
_OTHER_WORDS = 0.12
"""Share of the Mandarin words outside the vocabulary: with all, those inside it were lost too."""
_PROMPT_SECONDS = 6.0

Item = tuple[Clip, NDArray[np.int16]]


def _item(text: str, voice: str, lang: str, kind: str, audio: Audio) -> Item:
    tokens = tuple(vocabulary.tokens_of(text))
    return Clip(text, tokens, voice, lang, kind), to_int16(audio, peak=0.7)


def _speech_of(path: Path) -> Audio:
    """A recording without the quiet before and after; background noise is left around it."""
    audio = read_audio(path)
    return trim(audio, before=0.08, after=0.15, floor=0.04) if audio.size else audio


def _digits(folder: Path, known: set[str], rng: random.Random) -> Iterator[Item]:
    """FSDD's speakers that the data folder lacks: digits alone and joined."""
    words: dict[str, list[tuple[str, Audio]]] = defaultdict(list)
    for path in sorted(folder.glob("recordings/*.wav")):
        digit, speaker, _ = path.stem.split("_")
        if speaker not in known | FSDD_OUT:
            words[speaker].append((vocabulary.DIGITS_EN[int(digit)], read_audio(path)))
    for speaker, items in sorted(words.items()):
        for _ in range(_STRINGS):
            parts = [rng.choice(items) for _ in range(rng.choice([1, 1, 1, 2, 3, 4, 5]))]
            text, audio = joined(parts, rng)
            yield _item(text, f"fsdd-{speaker}", "en", "digits", audio)


def _words(folder: Path, rng: random.Random) -> Iterator[Item]:
    """DSPSpeech-20: words alone and in pairs of one language."""
    for speaker in sorted((folder / "speech_data").glob("*")):
        if speaker.name in _NUMBERS_OUT:
            continue
        paths = sorted(speaker.glob("*.wav"))
        taken: dict[int, list[Audio]] = defaultdict(list)
        for path in rng.sample(paths, len(paths)):
            number = int(path.stem.split("-")[1])
            if len(taken[number]) < _TAKES:
                audio = _speech_of(path)
                if audio.size:
                    taken[number].append(audio)
        said = [(_WORDS[n], audio) for n, several in sorted(taken.items()) for audio in several]
        for text, audio in said:
            lang = "en" if text.isascii() else "zh"
            yield _item(text, f"dsp-{speaker.name}", lang, "human-word", audio)
        for _ in range(_PAIRS):
            lang = rng.choice(["zh", "zh", "en"])
            same = [s for s in said if s[0].isascii() == (lang == "en")]
            text, audio = joined(rng.sample(same, 2), rng)
            text = text if lang == "en" else text.replace(" ", "")
            yield _item(text, f"dsp-{speaker.name}", lang, "human-word", audio)


def _commands(folder: Path, rng: random.Random) -> Iterator[Item]:
    """Speech Commands: many speakers, a word each; words of no command say nothing."""
    for path in sorted(folder.glob("*/*_nohash_*.wav")):
        text = path.parent.name if path.parent.name in vocabulary.ENGLISH_WORDS else ""
        audio = _speech_of(path)
        if audio.size:
            voice = "commands-" + path.stem.split("_")[0]
            kind = "human-word" if text else "foreign"
            for _ in range(_COMMAND_COPIES if text else 1):
                yield _item(text, voice, "en", kind, audio)


def _bare(pinyin: list[str]) -> list[str]:
    return [re.sub(r"\d", "", syllable) for syllable in pinyin]


def _mandarin(folder: Path, rng: random.Random) -> Iterator[Item]:
    """Words of a Mandarin word list by one voice; sentences laid out of another's syllables."""
    from pypinyin import Style, lazy_pinyin

    known_bare = set(_bare(list(vocabulary.PINYIN.values())))
    single = set(vocabulary.DIGITS_ZH) | {c for c in vocabulary.COMMANDS_ZH if len(c) == 1}
    for path in sorted((folder / "64k" / "hsk").glob("cmn-*.*")):
        word = path.stem.removeprefix("cmn-")
        pinyin = lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True)
        spelled = [vocabulary.PINYIN.get(character) for character in word]
        if pinyin == spelled and (len(word) > 1 or word in single):
            text, kind = word, "human-word"
        elif all(syllable in known_bare for syllable in _bare(pinyin)):
            continue  # Sounds like words of the vocabulary.
        elif rng.random() > _OTHER_WORDS:
            continue
        else:
            text, kind = "", "foreign"
        audio = _speech_of(path)
        if audio.size > 1600:
            for _ in range(_WORD_COPIES if text else 1):
                yield _item(text, "cmn-tan", "zh", kind, audio)
    syllables: dict[str, Audio] = {}
    for name in sorted(set(vocabulary.PINYIN.values())):
        path = folder / "64k" / "syllabs" / f"cmn-{name}.mp3"
        if path.exists():
            syllables[name] = trim(read_audio(path), before=0.01, after=0.02, floor=0.05)
    for _ in range(_SENTENCES if syllables else 0):
        kind, text = vocabulary.sample_more_zh(rng)
        names = [vocabulary.PINYIN[character] for character in text]
        if all(name in syllables for name in names):
            audio = np.concatenate([_shortened(syllables[name], rng) for name in names])
            yield _item(text, "cmn-wang", "zh", kind, audio)


def _shortened(audio: Audio, rng: random.Random) -> Audio:
    """A syllable that was said alone, at the pace of a sentence."""
    factor = rng.uniform(0.55, 0.9)
    # The pitch rises with the pace; half of it is given back by cutting the tail.
    faster = soxr.resample(audio, RATE, RATE * (0.5 + factor / 2)).astype(np.float32)
    kept = faster[: int(len(audio) * factor)]
    fade = min(160, len(kept))
    kept[len(kept) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return kept


def _prompts(folder: Path, rng: random.Random) -> Iterator[Item]:
    """Telephone prompts: digits and a greeting in English, all else says nothing."""
    for language in sorted(folder.glob("*_*")):
        english = language.name.startswith("en")
        for path in sorted(language.rglob("*.wav")):
            audio = _speech_of(path)
            if audio.size < 1600:
                continue
            section, stem = path.parent.name, path.stem
            text = ""
            if english and section == "digits":
                if not re.fullmatch(r"\d", stem):
                    continue
                text = vocabulary.DIGITS_EN[int(stem)]
            elif english and stem in ("hello", "vm-no", "vm-next"):
                text = stem.removeprefix("vm-")
            elif (
                english and section in ("letters", "phonetic", "silence")
            ) or audio.size < 0.9 * RATE:
                continue
            if text:
                for _ in range(_PROMPT_COPIES):
                    yield _item(text, "prompts-en", "en", "human-word", audio)
                continue
            size = int(_PROMPT_SECONDS * RATE)
            for start in range(0, min(len(audio), 4 * size), size):
                part = audio[start : start + size]
                if part.size > 0.9 * RATE:
                    lang = "en" if english else "other"
                    yield _item("", f"prompts-{language.name}", lang, "foreign", part)


def build(folder: Path | None, data: Path | None, corpus: Path, seed: int) -> None:
    """Write `more-train` into `corpus` from what `folder` and the prompts' folder have."""
    target = corpus / "more-train"
    if target.with_suffix(".jsonl").exists():
        return
    known: set[str] = set()
    if data is not None and (data / "fsdd").is_dir():
        known = {path.name for path in (data / "fsdd").iterdir() if path.is_dir()}
    sources = []
    if folder is not None:
        sources += [
            ("free-spoken-digit-dataset", folder, lambda f, r: _digits(f, known, r)),
            ("DSPSpeech-20", folder, _words),
            ("speech_commands", folder, _commands),
            ("audio-cmn", folder, _mandarin),
        ]
    sources.append((PROMPTS.name, PROMPTS.parent, _prompts))
    items: list[Item] = []
    for name, parent, reader in sources:
        if not (parent / name).is_dir():
            print(f"human: no {parent / name}: skipped", flush=True)
            continue
        before = len(items)
        items += reader(parent / name, random.Random(f"{name}/{seed}"))
        print(f"human {name}: {len(items) - before} clips", flush=True)
    if items:
        stored = write(target, items)
        print(f"human more-train: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
