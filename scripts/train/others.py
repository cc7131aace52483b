"""English by further synthesisers, each used where it is installed.

pip's ttspico                        SVOX Pico: two English voices, four that have an accent
festival with Debian's festvox-*     ked; Italian, Finnish and Czech voices with an accent
RHVoice-test with RHVoice's English  alan, bdl, clb (slt stays out: it is a test voice)

A third of what they say is said again by somebody else (revoice.py).
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import revoice, vocabulary
from .accents import SPELLED, WORDS
from .clips import RATE, Audio, Clip, read_audio, to_int16, trim, write

SIZE = 10000
_AGAIN = 0.35  # Share that is said by somebody else.
_DIGITS = 0.5
"""Share of digits in what the English voices say; the rest is as in the corpus."""
_FESTIVAL = Path("/usr/share/festival/voices")

Speaker = Callable[[str, random.Random, Path], Audio]


def _pico(language: str, text: str, rng: random.Random, _wav: Path) -> Audio:
    import ttspico

    engine = ttspico.TtsEngine(language)
    engine.rate, engine.pitch = rng.randint(70, 150), rng.randint(75, 130)
    samples = np.frombuffer(engine.speak(text), np.int16)
    return samples.astype(np.float32) / 32768


def _festival(voice: str, text: str, rng: random.Random, wav: Path) -> Audio:
    commands = [
        f"(voice_{voice})",
        f"(Parameter.set 'Duration_Stretch {rng.uniform(0.75, 1.35):.2f})",
        f'(utt.save.wave (SynthText "{text}") "{wav}" \'riff)',
    ]
    subprocess.run(["festival", "-b", *commands], check=True, capture_output=True, timeout=60)
    return read_audio(wav)


def _rhvoice(voice: str, text: str, rng: random.Random, wav: Path) -> Audio:
    command = ["RHVoice-test", "-p", voice, "-o", str(wav), "-R", str(RATE)]
    command += ["-r", str(rng.randint(60, 150)), "-t", str(rng.randint(70, 140))]
    subprocess.run(command, check=True, input=text.encode(), capture_output=True, timeout=60)
    return read_audio(wav)


def _has_pico() -> bool:
    try:
        import ttspico  # noqa: F401
    except ImportError:
        return False
    return True


def _has_rhvoice() -> bool:
    if shutil.which("RHVoice-test") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _rhvoice("bdl", "yes", random.Random(1), Path(folder) / "a.wav").size > 0
        except (subprocess.SubprocessError, OSError):
            return False


@dataclass(frozen=True)
class Voice:
    """A voice, its share of the clips, and the language whose spelling it needs."""

    name: str
    say: Speaker
    weight: float
    spelling: str | None = None


@functools.cache
def voices() -> tuple[Voice, ...]:
    """The voices that this machine has."""
    found: list[Voice] = []
    if _has_pico():
        for language in ("en-US", "en-GB"):
            found.append(Voice(f"pico-{language}", functools.partial(_pico, language), 3.0))
        for language in ("de-DE", "fr-FR", "it-IT", "es-ES"):
            speaker = functools.partial(_pico, language)
            found.append(Voice(f"pico-{language}", speaker, 0.8, language[:2]))
    if _has_rhvoice():
        for name in ("alan", "bdl", "clb"):
            found.append(Voice(f"rhvoice-{name}", functools.partial(_rhvoice, name), 3.0))
    if shutil.which("festival"):
        for language, names in (
            (None, ["english/ked_diphone"]),
            ("it", ["italian/pc_diphone", "italian/lp_diphone"]),
            ("fi", ["finnish/suo_fi_lj_diphone", "finnish/hy_fi_mv_diphone"]),
            ("cs", [f"czech/czech_{name}" for name in ("dita", "krb", "machac", "ph")]),
        ):
            for path in names:
                if (_FESTIVAL / path).is_dir():
                    name = Path(path).name
                    weight = 1.5 if language is None else 0.35
                    speaker = functools.partial(_festival, name)
                    found.append(Voice(f"festival-{name}", speaker, weight, language))
    return tuple(found)


def _text(voice: Voice, rng: random.Random) -> tuple[str, str]:
    """Return (kind, text) for a voice."""
    if voice.spelling is not None:
        words = vocabulary.DIGITS_EN if rng.random() < 0.7 else WORDS
        count = rng.choice([1, 1, 1, 2, 3, 4])
        return "digits", " ".join(rng.choice(words) for _ in range(count))
    if rng.random() < _DIGITS:
        count = rng.choice([1, 1, 1, 1, 2, 3, 4, 5])
        return "digits", " ".join(rng.choice(vocabulary.DIGITS_EN) for _ in range(count))
    return vocabulary.sample_more_en(rng)


def make_clip(item: tuple[int, int]) -> tuple[Clip, NDArray[np.int16]] | None:
    """The clip of (seed, index) by one of the voices; None where the voice fails."""
    seed, index = item
    rng = random.Random(f"others/{seed}/{index}")
    voice = rng.choices(voices(), [v.weight for v in voices()])[0]
    kind, text = _text(voice, rng)
    said = text
    if voice.spelling is not None:
        said = " ".join(SPELLED[voice.spelling][word] for word in text.split())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as tmp:
        try:
            audio = voice.say(said, rng, Path(tmp) / "a.wav")
        except (subprocess.SubprocessError, OSError):
            return None
    name = voice.name
    if rng.random() < _AGAIN and len(audio) > RATE // 10:
        audio = revoice.speak(revoice.analyse(audio), revoice.likeness(rng))
        name = f"{name}-again"
    if len(audio) < RATE // 10 or np.abs(audio).max() < 1e-3:
        return None
    clip = Clip(text, tuple(vocabulary.tokens_of(text)), name, "en", kind)
    return clip, to_int16(trim(audio), peak=0.7)


def _items(seed: int, size: int, processes: int) -> Iterator[tuple[Clip, NDArray[np.int16]]]:
    jobs = ((seed, index) for index in range(size))
    with multiprocessing.Pool(processes) as pool:
        yield from (item for item in pool.imap(make_clip, jobs, chunksize=16) if item)


def build(corpus: Path, seed: int, size: int = SIZE, processes: int = 2) -> None:
    """Write `others-train` into `corpus`."""
    target = corpus / "others-train"
    if target.with_suffix(".jsonl").exists():
        return
    names = [voice.name for voice in voices()]
    print(f"further voices: {', '.join(names) or 'none'}", flush=True)
    if names:
        stored = write(target, _items(seed, size, processes))
        print(f"corpus others-train: {len(stored)} clips, {stored.hours:.2f} h", flush=True)
