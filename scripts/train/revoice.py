"""Other speakers from recordings: the WORLD vocoder moves pitch, vocal tract and pace apart.

Few people said the words of the vocabulary. A recording, taken apart into pitch, spectral
envelope and aperiodicity (pyworld; Morise, Yokomori and Ozawa 2016), is put together again as
somebody else would have said it; two recordings of a word, laid on each other, give a speaker
between the two.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clips import RATE, Audio

_FRAME_MS = 10.0
_BANDS = 24
_LOWEST_PITCH, _HIGHEST_PITCH = 60.0, 500.0
PITCH = (0.62, 1.75)  # Factors of the fundamental frequency.
TRACT = (0.82, 1.22)  # Factors of the formants' frequencies.
PACE = (0.72, 1.35)  # Factors of the duration.

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """A recording taken apart; frames of 10 ms."""

    pitch: Matrix
    """Fundamental frequency in Hz (frames,); 0 where there is no voice."""
    envelope: Matrix
    """Logarithm of the spectral envelope (frames, bins)."""
    breath: Matrix
    """Aperiodicity, 0 to 1 (frames, bins)."""


@dataclass(frozen=True)
class Likeness:
    """How the new speaker differs."""

    pitch: float
    melody: float
    """Scales the movement of the pitch around its middle."""
    tract: float
    wiggle: tuple[float, float, float]
    """Depth, rate and phase of a bend of the frequency axis: single formants move."""
    tilt: float
    """Nepers from the lowest to the highest frequency."""
    breath: float
    pace: float
    rhythm: tuple[float, float]
    """Depth and phase of a change of pace inside the utterance."""


def likeness(rng: random.Random) -> Likeness:
    """Draw a speaker; high voices mostly have short vocal tracts."""
    pitch = float(np.exp(rng.uniform(*np.log(PITCH))))
    tract = float(np.clip(1 + 0.22 * np.log(pitch) + rng.gauss(0, 0.06), *TRACT))
    return Likeness(
        pitch=pitch,
        melody=rng.uniform(0.4, 1.7),
        tract=tract,
        wiggle=(rng.uniform(0, 0.035), rng.uniform(1, 4), rng.uniform(0, 6.3)),
        tilt=rng.uniform(-1.5, 1.5),
        breath=rng.uniform(0.6, 1.6),
        pace=rng.uniform(*PACE),
        rhythm=(rng.uniform(0, 0.25), rng.uniform(0, 6.3)),
    )


def analyse(audio: Audio) -> Parts:
    """Take a recording (16 kHz) apart."""
    import pyworld

    samples = audio.astype(np.float64)
    pitch, times = pyworld.dio(
        samples, RATE, f0_floor=_LOWEST_PITCH, f0_ceil=_HIGHEST_PITCH, frame_period=_FRAME_MS
    )
    pitch = pyworld.stonemask(samples, pitch, times, RATE)
    envelope = pyworld.cheaptrick(samples, pitch, times, RATE)
    breath = pyworld.d4c(samples, pitch, times, RATE, threshold=0.3)
    return Parts(pitch, np.log(np.maximum(envelope, 1e-16)), breath)


def _at(values: Matrix, places: Matrix) -> Matrix:
    """Rows at fractional places, interpolated."""
    below = np.clip(places.astype(int), 0, max(0, len(values) - 2))
    above = np.minimum(below + 1, len(values) - 1)
    share = (places - below).reshape(-1, *[1] * (values.ndim - 1))
    return values[below] * (1 - share) + values[above] * share


def _melody(pitch: Matrix, as_if: Likeness) -> Matrix:
    """The pitch as that speaker has it; frames without voice stay without."""
    voiced = pitch > 0
    if not voiced.any():
        return pitch
    middle = np.exp(np.log(pitch[voiced]).mean())
    moved = middle * as_if.pitch * (pitch[voiced] / middle) ** as_if.melody
    pitch = pitch.copy()
    pitch[voiced] = np.clip(moved, _LOWEST_PITCH, 1.5 * _HIGHEST_PITCH)
    return pitch


def changed(parts: Parts, as_if: Likeness) -> Parts:
    """Parts of a recording as that speaker's."""
    count = max(4, int(len(parts.pitch) * as_if.pace))
    even = np.linspace(0, 1, count)
    depth, phase = as_if.rhythm
    shape = even + depth / (2 * np.pi) * (np.sin(2 * np.pi * even + phase) - np.sin(phase))
    places = np.clip(shape, 0, 1) * (len(parts.pitch) - 1)
    pitch = parts.pitch[np.clip(np.round(places).astype(int), 0, len(parts.pitch) - 1)]
    bins = parts.envelope.shape[1]
    scale = np.linspace(0, 1, bins)
    bend, rate, start = as_if.wiggle
    source = scale / as_if.tract * (1 + bend * np.sin(2 * np.pi * rate * scale + start))
    axis = np.clip(source, 0, 1) * (bins - 1)
    envelope = _at(_at(parts.envelope, places).T, axis).T + as_if.tilt * (scale - 0.3)
    breath = _at(_at(parts.breath, places).T, axis).T
    breath = np.clip(breath, 1e-4, 1.0) ** (1 / as_if.breath)
    return Parts(_melody(pitch, as_if), envelope, np.clip(breath, 0.0, 1.0))


def speak(parts: Parts, as_if: Likeness) -> Audio:
    """Put a recording together again as that speaker; 16 kHz."""
    import pyworld

    new = changed(parts, as_if)
    envelope, breath = (np.ascontiguousarray(m) for m in (np.exp(new.envelope), new.breath))
    audio = pyworld.synthesize(new.pitch, envelope, breath, RATE, frame_period=_FRAME_MS)
    return audio.astype(np.float32)


def _bands(envelope: Matrix) -> Matrix:
    """Band energies (frames, bands) that two speakers are compared by."""
    edges = np.geomspace(4, envelope.shape[1], _BANDS + 1).astype(int)
    means = [envelope[:, a : max(b, a + 1)].mean(1) for a, b in itertools.pairwise(edges)]
    found = np.stack(means, 1)
    return found - found.mean(0)


def _alignment(first: Matrix, second: Matrix) -> tuple[list[int], list[int]]:
    """Dynamic time warping of two band energies: pairs of frames."""
    distance = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    rows, columns = distance.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(rows):
        above, here = cost[i].tolist(), [np.inf]
        for j, own in enumerate(distance[i].tolist()):
            here.append(own + min(above[j], above[j + 1], here[j]))
        cost[i + 1] = here
    i, j = rows, columns
    pairs: list[tuple[int, int]] = []
    while i and j:
        pairs.append((i - 1, j - 1))
        step = int(np.argmin([cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1]]))
        i, j = (i - 1, j - 1) if step == 0 else (i - 1, j) if step == 1 else (i, j - 1)
    pairs.reverse()
    return [p[0] for p in pairs], [p[1] for p in pairs]


def between(first: Parts, second: Parts, share: float) -> Parts:
    """The word as somebody between two speakers says it; `share` of the second."""
    left, right = _alignment(_bands(first.envelope), _bands(second.envelope))
    one, other = np.array(left), np.array(right)
    # A path is longer than either recording: thin it out to a length between the two.
    length = len(first.pitch) * (1 - share) + len(second.pitch) * share
    kept = np.round(np.linspace(0, len(one) - 1, max(4, int(length)))).astype(int)
    one, other = one[kept], other[kept]
    pitches = np.stack([first.pitch[one], second.pitch[other]])
    both = (pitches > 0).all(0)
    leading = pitches[1] if share > 0.5 else pitches[0]
    mixed = np.exp(np.log(np.maximum(pitches, 1.0)).T @ np.array([1 - share, share]))
    return Parts(
        np.where(both, mixed, leading),
        first.envelope[one] * (1 - share) + second.envelope[other] * share,
        first.breath[one] * (1 - share) + second.breath[other] * share,
    )
