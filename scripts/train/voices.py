"""Invented espeak-ng voices: random vocal tracts, for more speakers than are listed."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

VARIANTS = "voices/!v"
# espeak-ng knows 349 voices at most: those of another programme (mb) would take their places.
_LEFT_OUT = ("voices", "!v", "mb")
NAMES = [f"made{index:03}" for index in range(160)]


def _data_folder() -> Path:
    """The data folder of the installed espeak-ng. Raises RuntimeError where it names none."""
    shown = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"Data at:\s*(\S+)", shown.stdout)
    if found is None:
        raise RuntimeError(f"espeak-ng --version names no data folder: {shown.stdout!r}")
    return Path(found.group(1))


def _variant(name: str, rng: random.Random) -> str:
    """The file of one voice: formants, pitch, breath and roughness, all in espeak-ng's units."""
    tract = rng.uniform(0.84, 1.24)
    low = rng.uniform(55, 175)
    lines = [
        "language variant",
        f"name {name}",
        f"pitch {low:.0f} {low * rng.uniform(1.2, 1.8):.0f}",
    ]
    for formant in range(1, 7):
        frequency = 100 * tract * rng.uniform(0.95, 1.05)
        height, width = rng.uniform(65, 125), rng.uniform(70, 170)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    lines.append(f"voicing {rng.uniform(65, 130):.0f}")
    lines.append(f"consonants {rng.uniform(60, 130):.0f} {rng.uniform(60, 130):.0f}")
    lines.append(f"flutter {rng.randint(0, 12)}")
    lines.append(f"roughness {rng.randint(0, 4)}")
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(rng.randint(0, 12)) for _ in range(6)))
    if rng.random() < 0.25:
        lines.append(f"klatt {rng.randint(1, 5)}")
    if rng.random() < 0.3:
        lines.append(f"intonation {rng.randint(1, 4)}")
    return "\n".join(lines) + "\n"


def make(folder: Path, seed: int) -> Path:
    """Write the voices NAMES into `folder`, which `espeak-ng --path` then takes; return it."""
    data = folder / "espeak-ng-data"
    if not (data / VARIANTS / NAMES[-1]).exists():
        source = _data_folder()
        (data / VARIANTS).mkdir(parents=True, exist_ok=True)
        for at in (source, source / "voices"):
            for entry in at.iterdir():
                link = data / entry.relative_to(source)
                if entry.name not in _LEFT_OUT and not link.exists():
                    link.symlink_to(entry)
        for name in NAMES:
            text = _variant(name, random.Random(f"voice/{seed}/{name}"))
            (data / VARIANTS / name).write_text(text)
    return folder
