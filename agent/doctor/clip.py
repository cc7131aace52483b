"""The clip that another box is asked to recognise, and how its answer is judged."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from agent.types import SAMPLE_RATE

CLIP_MODEL = "builtin-offline"
"""Its golden clip is sent; it is in every installation."""
MAX_CLIP_S = 60


@dataclass(frozen=True)
class Clip:
    """A recording and what it says."""

    pcm: bytes
    """16 kHz, mono, 16 bit, little-endian."""
    duration_s: float
    text: str


def load_clip(models_dir: Path) -> Clip:
    """The golden clip of the built-in recogniser. Raises AgentError or OSError."""
    import numpy as np

    from agent.audio.media import MediaReader
    from agent.errors import ManifestError
    from agent.store.manifest import read_manifest

    folder = models_dir / CLIP_MODEL
    manifest = read_manifest(folder)
    if manifest.golden is None or not manifest.golden.text:
        raise ManifestError(f"{folder}: names no golden clip with a text")
    with MediaReader(folder / manifest.golden.audio) as reader:
        samples = np.concatenate(list(reader.blocks()))[: MAX_CLIP_S * SAMPLE_RATE]
    pcm = samples.astype("<i2").tobytes()
    return Clip(pcm, len(samples) / SAMPLE_RATE, manifest.golden.text)


def says_the_same(text: str, other: str) -> bool:
    """Whether two texts have the same letters and digits; marks, case and spaces don't count."""
    return _letters(text) == _letters(other)


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if char.isalnum())
