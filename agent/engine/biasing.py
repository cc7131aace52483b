"""Hotwords as the rows of `bias_embed`, made by the second graph of contextual Paraformers.

Graph `model_eb`: hotword i32[n,L] (ids, padded with 0) -> hw_embed f32[L,n,D]; a phrase of k
tokens is row k-1 of its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from agent.engine import ort
from agent.engine.phrases import Segmenter
from agent.types import Float32

KEPT_LISTS = 8
"""Lists of hotwords whose rows are kept: 2 MB each for a thousand phrases."""
_BLANK = (1,)
"""The last row of every list: no hotword at all."""
_PHRASES_A_RUN = 64


class HotwordEncoder:
    """Makes the rows of a list of phrases; the same list again costs nothing. Safe to share
    between threads."""

    def __init__(self, graph: ort.Graph, segmenter: Segmenter, dim: int) -> None:
        """Raises CompatibilityError when the graph is no hotword encoder for rows of `dim`."""
        graph.require(
            {"hotword": ort.TensorSpec("int32", (None, None))},
            {"hw_embed": ort.TensorSpec("float", (None, None, dim))},
        )
        self._graph = graph
        self._dim = dim
        self.segmented = lru_cache(maxsize=KEPT_LISTS)(segmenter.segment)
        """Phrases to PhraseIds."""
        self.rows = lru_cache(maxsize=KEPT_LISTS)(self._rows)
        """Phrases to bias_embed without its batch, f32[n+1,D]; raises InferenceError."""

    def _rows(self, phrases: tuple[str, ...]) -> Float32:
        rows = self._encode((*self.segmented(phrases).rows, _BLANK))
        rows.flags.writeable = False
        return rows

    def _encode(self, phrases: Sequence[Sequence[int]]) -> Float32:
        """Rows [n, D]; phrases of like length run together."""
        out: Float32 = np.empty((len(phrases), self._dim), np.float32)
        order = sorted(range(len(phrases)), key=lambda i: len(phrases[i]))
        for first in range(0, len(order), _PHRASES_A_RUN):
            part = order[first : first + _PHRASES_A_RUN]
            ids = np.zeros((len(part), len(phrases[part[-1]])), np.int32)
            for row, i in zip(ids, part, strict=True):
                row[: len(phrases[i])] = phrases[i]
            embedded = self._graph.run({"hotword": ids})["hw_embed"]
            last = [len(phrases[i]) - 1 for i in part]
            out[part] = embedded[last, range(len(part))]
        ort.require_finite(out, "hw_embed", file=self._graph.name)
        return out
