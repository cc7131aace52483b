"""Rejection: what a model reads without being sure of it is no text.

A recogniser of a closed vocabulary has to name some word for every sound. Its own probabilities
tell speech from the rest: over half for the words it knows, far below for noise and for other
words. The key is ours, in the model's config.yaml, and models without it reject nothing:

    rejection_conf: {min_probability: 0.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.engine.greedy import Ids
from agent.engine.side_files import section
from agent.errors import ManifestError
from agent.types import Float32

KEY = "rejection_conf"


@dataclass(frozen=True)
class Rejection:
    """The least mean probability that the best classes of a text must have; 0 takes every text."""

    min_probability: float = 0.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Rejection:
        """From a model's config.yaml. Raises ManifestError when it is no probability."""
        value = section(config, KEY).get("min_probability", 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ManifestError(
                f"{KEY}.min_probability is {value!r}, no number from 0 to below 1",
                file="config.yaml",
            )
        return cls(float(value))

    def rejects(self, logits: Float32, positions: Ids) -> bool:
        """Whether the text at `positions` of `logits` [L, V] is not to be believed.

        Logits may be normalised or not: log-probabilities are their own logits.
        """
        if not self.min_probability or not len(positions):
            return False
        rows = logits[positions].astype(np.float64)
        best = rows.max(axis=-1, keepdims=True)
        probability = 1.0 / np.exp(rows - best).sum(axis=-1)
        return bool(probability.mean() < self.min_probability)


NEVER = Rejection()
"""Of models whose config.yaml does not speak of it: all that was published."""
