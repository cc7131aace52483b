"""Greedy decoding: the best class of each frame, and CTC's runs of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine import ort
from agent.types import Float32

Ids = NDArray[Any]
"""Integers, shape [T]."""


@dataclass(frozen=True)
class Run:
    """Consecutive frames [first, behind) with the same best class."""

    id: int
    first: int
    behind: int


def best_ids(logits: Float32, name: str, *, file: str) -> Ids:
    """The best class of each frame of `logits` [T, V].

    Raises InferenceError when a frame holds NaN, which is what argmax then finds.
    """
    best: Ids = logits.argmax(axis=-1)
    ort.require_finite(np.take_along_axis(logits, best[:, None], axis=-1), name, file=file)
    return best


def collapse(ids: Ids, blank: int = 0) -> list[Run]:
    """CTC's reading of a best path: runs of equal ids, without those of `blank`."""
    if not len(ids):
        return []
    edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
    runs = [Run(int(ids[a]), a, b) for a, b in pairwise(edges)]
    return [run for run in runs if run.id != blank]
