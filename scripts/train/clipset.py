"""Small kept-out clips for the test suite, each decoded exactly by both embedded recognisers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from . import vocabulary
from .bundle import text_of
from .clips import RATE, ClipSet, to_int16
from .decode import Offline, Online
from .features import fbank

WANTED = {"zh": 5, "en": 4}
LONGEST = 1.85  # Seconds: 16-bit mono stays below 60 KB.
LEAD, TRAIL = 0.25, 0.35


def write_clips(corpus: Path, models: Path, target: Path) -> None:
    """Write commands of distinct text and voice, and transcripts.tsv."""
    decoders = [Offline(models / "builtin-offline"), Online(models / "builtin-online")]
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.wav"):
        old.unlink()
    rows = ["file\tlang\ttext"]
    for lang, count in WANTED.items():
        commands = set(vocabulary.COMMANDS_ZH if lang == "zh" else vocabulary.COMMANDS_EN)
        shortest = 4 if lang == "zh" else 2
        used: set[str] = set()
        for clip, audio in ClipSet(corpus / lang):
            if len(used) >= 2 * count:
                break
            padded = np.pad(audio, (int(LEAD * RATE), int(TRAIL * RATE)))
            fits = clip.text in commands and len(padded) <= LONGEST * RATE
            if not fits or len(clip.tokens) < shortest or {clip.text, clip.voice} & used:
                continue
            samples = to_int16(padded)
            mel = fbank(samples.astype(np.float32) / 32768)
            if any(text_of(decode(mel)) != clip.text for decode in decoders):
                continue
            used |= {clip.text, clip.voice}
            file = f"{lang}-{len(used) // 2}.wav"
            soundfile.write(str(target / file), samples, RATE, subtype="PCM_16")
            rows.append(f"{file}\t{lang}\t{clip.text}")
    (target / "transcripts.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    print(f"clips: {len(rows) - 1} in {target}", flush=True)
