"""Continuous integrate-and-fire: frame weights to token embeddings, carried over hops.

After Dong and Xu, "CIF: Continuous Integrate-and-Fire for End-to-End Speech Recognition" (2020),
as FunASR's streaming Paraformer uses it. In single precision throughout, as FunASR computes it: the
last bit of an embedding decides how int8 rounds it.
"""

from __future__ import annotations

import numpy as np

from agent.types import Float32


class CifState:
    """What one utterance has integrated since its last token."""

    def __init__(self, dim: int, threshold: float, tail_threshold: float) -> None:
        self._threshold = np.float32(threshold)
        self._tail_threshold = np.float32(tail_threshold)
        self._alpha = np.float32(0.0)
        self._hidden: Float32 = np.zeros(dim, np.float32)

    def fire(self, hidden: Float32, alphas: Float32, *, is_last: bool) -> Float32:
        """Embeddings [tokens, dim] completed by `hidden` [T, dim] with weights `alphas` [T].

        The last call adds the tail weight that lets an almost complete token fire.
        """
        dim = hidden.shape[1]
        steps = np.concatenate([self._hidden[None], hidden])
        weights = [self._alpha, *alphas.astype(np.float32)]
        if is_last:
            steps = np.concatenate([steps, np.zeros((1, dim), np.float32)])
            weights.append(self._tail_threshold)
        fired: list[Float32] = []
        integrated = np.float32(0.0)
        frame: Float32 = np.zeros(dim, np.float32)
        for alpha, step in zip(weights, steps, strict=True):
            if integrated + alpha < self._threshold:
                integrated += alpha
                frame = frame + alpha * step
                continue
            fired.append(frame + (self._threshold - integrated) * step)
            integrated = integrated + alpha - self._threshold
            frame = integrated * step
        self._alpha = integrated
        self._hidden = (frame / integrated if integrated > 0 else frame).astype(np.float32)
        return np.stack(fired).astype(np.float32) if fired else np.zeros((0, dim), np.float32)
