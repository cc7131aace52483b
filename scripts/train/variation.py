"""Versions of stored features, drawn anew in every epoch: cheap beside another augmentation."""

from __future__ import annotations

import random
from typing import Protocol

import numpy as np

from .clips import RATE
from .features import MEL

WARPS = np.linspace(0.86, 1.16, 21)
"""Factors of the frequency axis: shorter and longer vocal tracts."""
PACE = (0.86, 1.14)  # Slower and faster.
NOISE_DB = (4.0, 30.0)  # Level of an utterance over its background.


def _warping(factor: float) -> np.ndarray:
    """The matrix that moves mel energies (frames, MEL) along frequency: energies @ matrix."""
    low, high = (1127 * np.log1p(f / 700) for f in (20.0, RATE / 2))
    centres = low + (np.arange(MEL) + 1) * (high - low) / (MEL + 1)
    wanted = 1127 * np.log1p(700 * np.expm1(centres / 1127) / factor / 700)
    place = np.clip((wanted - low) / (high - low) * (MEL + 1) - 1, 0, MEL - 1)
    below = np.minimum(place.astype(int), MEL - 2)
    matrix = np.zeros((MEL, MEL), np.float32)
    matrix[below, np.arange(MEL)] = 1 - (place - below)
    matrix[below + 1, np.arange(MEL)] += place - below
    return matrix


class Noise(Protocol):
    """Stored audio without speech (features.FeatureSet)."""

    def __len__(self) -> int: ...

    def mel(self, index: int) -> np.ndarray: ...


class Variation:
    """Another version of stored mel energies (frames, MEL), drawn anew in every epoch.

    Vocal tract, pace, timbre, level and background change; `noise` is audio without speech.
    """

    def __init__(self, noise: Noise | None, rng: random.Random) -> None:
        """Nothing is drawn yet."""
        self._noise, self._rng = noise, rng
        self.strength = 1.0
        """Scales how often each change is made: a training ends nearer to what will be heard."""
        self._warps = [_warping(factor) for factor in WARPS]
        self._axis = np.linspace(0.0, 1.0, MEL, dtype=np.float32)

    def _pace(self, mel: np.ndarray) -> np.ndarray:
        count = max(12, int(len(mel) / self._rng.uniform(*PACE)))
        place = np.linspace(0, len(mel) - 1, count, dtype=np.float32)
        below = np.minimum(place.astype(int), len(mel) - 2)
        share = (place - below)[:, None]
        return mel[below] * (1 - share) + mel[below + 1] * share

    def _timbre(self) -> np.ndarray:
        rng, axis = self._rng, self._axis
        wave = np.sin(axis * rng.uniform(1, 9) + rng.uniform(0, 6)) * rng.uniform(0, 0.9)
        return rng.uniform(-1.2, 1.2) * (axis - 0.5) + wave

    def _background(self, mel: np.ndarray) -> np.ndarray:
        assert self._noise is not None
        noise = self._noise.mel(self._rng.randrange(len(self._noise)))
        start = self._rng.randrange(len(noise))
        noise = np.resize(np.roll(noise, start, axis=0), mel.shape)
        ratio = self._rng.uniform(*NOISE_DB) * np.log(10) / 10
        gain = np.log(np.exp(mel).mean()) - np.log(np.exp(noise).mean()) - ratio
        return np.logaddexp(mel, noise + gain)

    def __call__(self, mel: np.ndarray, speech: bool) -> np.ndarray:
        """Return the version; what says nothing keeps its background."""
        if len(mel) < 12:
            return mel
        if self._chance(0.5):
            mel = mel @ self._rng.choice(self._warps)
        if self._chance(0.3):
            mel = self._pace(mel)
        if self._chance(0.4):
            mel = mel + self._timbre()
        if speech and self._noise is not None and self._chance(0.3):
            mel = self._background(mel)
        if self._chance(0.3):
            mel = mel + self._rng.uniform(-1.5, 1.5)
        return mel

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share * self.strength
