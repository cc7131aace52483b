"""Level of audio in dB below full scale, and gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.types import Int16

FLOOR_DBFS = -96.0
"""What silence is said to have."""
_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Level:
    """Of one stretch of audio."""

    rms_dbfs: float = FLOOR_DBFS
    peak_dbfs: float = FLOOR_DBFS
    clipped: int = 0
    """Samples at full scale."""


class LevelMeter:
    """Gathers audio between two readings."""

    def __init__(self) -> None:
        self._energy = 0.0
        self._peak = 0
        self._samples = 0
        self._clipped = 0

    def accept(self, samples: Int16, clipped: int = 0) -> None:
        """Take samples [n]; `clipped` of them were at full scale."""
        if len(samples):
            wide = samples.astype(np.float32)
            self._energy += float(np.dot(wide, wide))
            self._peak = max(self._peak, int(np.abs(wide).max()))
            self._samples += len(samples)
        self._clipped += clipped

    def read(self) -> Level:
        """Of what came since the last reading."""
        rms = math.sqrt(self._energy / self._samples) if self._samples else 0.0
        level = Level(_dbfs(rms), _dbfs(self._peak), self._clipped)
        self._energy, self._peak, self._samples, self._clipped = 0.0, 0, 0, 0
        return level


def amplify(samples: Int16, gain_db: float) -> tuple[Int16, int]:
    """Samples [n] louder by so many dB, and how many of them were cut off at full scale."""
    if not gain_db or not len(samples):
        return samples, 0
    limits = np.iinfo(np.int16)
    louder = np.rint(samples.astype(np.float32) * np.float32(10 ** (gain_db / 20)))
    clipped = int(np.count_nonzero((louder > limits.max) | (louder < limits.min)))
    return np.clip(louder, limits.min, limits.max).astype(np.int16), clipped


def _dbfs(amplitude: float) -> float:
    if amplitude <= 0:
        return FLOOR_DBFS
    return round(max(FLOOR_DBFS, 20 * math.log10(amplitude / _FULL_SCALE)), 1)
