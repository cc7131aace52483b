"""Normalised batches of stored features."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .features import MEL, FeatureSet, lfr
from .variation import Variation

BATCH_FRAMES = 750


class Normaliser:
    """Global mean and variance normalisation as am.mvn holds it: (x + shift) * scale."""

    def __init__(self, path: Path, sets: list[FeatureSet] | None = None, stack: bool = True):
        """Load from `path`, or measure on every tenth utterance of `sets` and store there."""
        if not path.exists():
            if sets is None:
                raise FileNotFoundError(path)
            rows = [s.mel(i) for s in sets for i in range(0, len(s), 10)]
            frames = np.concatenate([lfr(row) for row in rows] if stack else rows)
            np.savez(path, shift=-frames.mean(0), scale=1.0 / np.maximum(frames.std(0), 1e-3))
        stored = np.load(path)
        self.shift = stored["shift"].astype(np.float32)
        self.scale = stored["scale"].astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Normalise stacked features."""
        return (features + self.shift) * self.scale


class Batches:
    """Length-sorted batches over several feature sets."""

    def __init__(
        self,
        sets: list[FeatureSet],
        normaliser: Normaliser,
        seed: int,
        noise: FeatureSet | None = None,
    ) -> None:
        """Leave out utterances too short for their transcripts."""
        self._sets, self._normaliser = sets, normaliser
        self._rng = random.Random(seed)
        self.mask_rate = 0.0
        self.vary = Variation(noise, random.Random(f"vary/{seed}"))
        self._items = [
            (s, i)
            for s, features in enumerate(sets)
            for i in range(len(features))
            if features.lengths[i] // 6 >= len(features.ids[i]) + 2
        ]

    def _length(self, item: tuple[int, int]) -> int:
        return self._sets[item[0]].lengths[item[1]] // 6 + 1

    def epoch(self, longest: int | None = None) -> Iterator[list[tuple[int, int]]]:
        """Yield batches in random order; `longest` limits the number of tokens."""
        items = [
            (s, i)
            for s, i in self._items
            if longest is None or len(self._sets[s].ids[i]) <= longest
        ]
        items.sort(key=lambda item: self._length(item) + self._rng.random() * 10)
        batches: list[list[tuple[int, int]]] = [[]]
        width = 0
        for item in items:
            width = max(width, self._length(item))
            if batches[-1] and width * (len(batches[-1]) + 1) > BATCH_FRAMES:
                batches.append([])
                width = self._length(item)
            batches[-1].append(item)
        self._rng.shuffle(batches)
        for batch in batches:
            # FunASR's CIF fails when the last row of a batch never fires, which rounding makes
            # possible for an empty transcript (its only target is </s>): end with a longer one.
            batch.sort(key=lambda item: len(self._sets[item[0]].ids[item[1]]))
            if self._sets[batch[-1][0]].ids[batch[-1][1]]:
                yield batch

    def _features(self, item: tuple[int, int]) -> np.ndarray:
        stored = self._sets[item[0]]
        mel = self.vary(stored.mel(item[1]), bool(stored.ids[item[1]]))
        if self._rng.random() < self.mask_rate:
            start, width = self._rng.randrange(MEL), self._rng.randint(1, 14)
            mel[:, start : start + width] = mel.mean()
        return self._normaliser(lfr(mel))

    def tensors(self, batch: list[tuple[int, int]]) -> tuple[torch.Tensor, ...]:
        """Return speech, speech lengths, text (padded with -1) and text lengths."""
        rows = [self._features(item) for item in batch]
        ids = [self._sets[s].ids[i] for s, i in batch]
        speech = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
        text = np.full((len(rows), max(1, *map(len, ids), 1)), -1, np.int64)
        for index, (row, target) in enumerate(zip(rows, ids, strict=True)):
            speech[index, : len(row)] = row
            text[index, : len(target)] = target
        return (
            torch.from_numpy(speech),
            torch.tensor([len(row) for row in rows]),
            torch.from_numpy(text),
            torch.tensor([len(target) for target in ids]),
        )
