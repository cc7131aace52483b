"""The two graphs of streaming Paraformer, run for one stream or for several at once.

Encoder: speech f32[B,T,560], speech_lengths i32[B] -> enc f32[B,T,D], enc_len, alphas f32[B,T].
Decoder: enc, enc_len, acoustic_embeds f32[B,L,D], acoustic_embeds_len, in_cache_* [B,D,10] ->
logits f32[B,L,V], sample_ids, out_cache_*.
The lengths are always those of the arrays, nothing is padded: graphs that were derived for this box
(`agent.store.rewrite_lean`) have no masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.engine import ort
from agent.types import Float32

_PROOF_SHAPES = ((20, 2), (13, 1))
"""Frames of a window and tokens of a hop that batches are tried with."""


@dataclass(frozen=True)
class EncodedHop:
    """What the encoder makes of one window."""

    enc: Float32
    """[1, T, D]."""
    length: ort.Array
    """[1], as the encoder put it out."""
    alphas: Float32
    """[T]: weights for CIF."""


@dataclass(frozen=True)
class DecoderHop:
    """What the decoder gets for one hop, and what the last one left."""

    encoded: EncodedHop
    embeds: Float32
    """[L, D]."""
    caches: Mapping[str, Float32]
    """Name (without in_ or out_) -> [1, D, frames]."""


@dataclass(frozen=True)
class DecodedHop:
    """What the decoder makes of one hop."""

    logits: Float32
    """[L, V]."""
    caches: dict[str, Float32]
    """For the next hop."""


class HopGraphs:
    """Encoder and decoder. Safe to use from several threads; knows nothing of any stream."""

    def __init__(self, encoder: ort.Graph, decoder: ort.Graph, frames: Mapping[str, int]) -> None:
        """`frames`: name of each decoder cache -> frames that it holds."""
        self._encoder = encoder
        self._decoder = decoder
        self._frames = frames

    def encode(self, windows: Sequence[Float32]) -> list[EncodedHop]:
        """One run for windows [T, features] of the same length. Raises InferenceError."""
        count, length = len(windows), len(windows[0])
        speech = windows[0][None] if count == 1 else np.stack(windows)
        out = self._encoder.run({"speech": speech, "speech_lengths": ort.int32(*[length] * count)})
        ort.require_finite(out["alphas"], "alphas", file=self._encoder.name)
        return [
            EncodedHop(out["enc"][i : i + 1], out["enc_len"][i : i + 1], out["alphas"][i])
            for i in range(count)
        ]

    def decode(self, hops: Sequence[DecoderHop]) -> list[DecodedHop]:
        """One run for hops with as many frames and as many tokens each. Raises InferenceError."""
        feeds: dict[str, ort.Array] = {
            "enc": _joined([hop.encoded.enc for hop in hops]),
            "enc_len": _joined([hop.encoded.length for hop in hops]),
            "acoustic_embeds": _joined([hop.embeds[None] for hop in hops]),
            "acoustic_embeds_len": ort.int32(*[len(hop.embeds) for hop in hops]),
        }
        for name in self._frames:
            feeds[f"in_{name}"] = _joined([hop.caches[name] for hop in hops])
        out = self._decoder.run(feeds)
        ort.require_finite(out["logits"], "logits", file=self._decoder.name)
        count = len(hops)
        return [DecodedHop(out["logits"][i], self._caches(out, i, count)) for i in range(count)]

    def _caches(self, out: Mapping[str, ort.Array], index: int, count: int) -> dict[str, Float32]:
        kept = {}
        for name, frames in self._frames.items():
            cache = out[f"out_{name}"][index : index + 1, :, -frames:]
            # A view would keep what all streams of the batch left for as long as one needs its own.
            kept[name] = cache if count == 1 else cache.copy()
        return kept

    def proven_batch(self, most: int, features: int, dim: int) -> int:
        """`most` when runs shared by up to so many streams give each the very numbers that it gets
        alone, else 1. `features` and `dim` are the sizes of a window's and an encoded frame.

        Random input tells: where a value depends on the other rows, as the range of dynamic int8
        does, it differs at once.
        """
        rng = np.random.default_rng(0)
        for count, (frames, tokens) in zip((most, min(most, 3)), _PROOF_SHAPES, strict=True):
            # Streams of different loudness, so that ranges over the batch can't fit each.
            windows = [
                (rng.standard_normal((frames, features)) * (1 + i)).astype(np.float32)
                for i in range(count)
            ]
            encoded = self._same(self.encode, windows)
            if encoded is None:
                return 1
            hops = [
                DecoderHop(e, self._embeds(rng, tokens, dim), self._noise(rng)) for e in encoded
            ]
            if self._same(self.decode, hops) is None:
                return 1
        return most

    def _same(self, run: Callable[[Any], list[Any]], items: list[Any]) -> list[Any] | None:
        """What each gets alone, if it gets the same in company."""
        single = [run([item])[0] for item in items]
        shared = run(items)
        return single if all(map(_equal, single, shared)) else None

    def _embeds(self, rng: np.random.Generator, tokens: int, dim: int) -> Float32:
        return rng.standard_normal((tokens, dim)).astype(np.float32)

    def _noise(self, rng: np.random.Generator) -> dict[str, Float32]:
        sizes = {name: self._decoder.inputs[f"in_{name}"].size(1) for name in self._frames}
        return {
            name: rng.standard_normal((1, sizes[name], frames)).astype(np.float32)
            for name, frames in self._frames.items()
        }


def _joined(parts: Sequence[ort.Array]) -> ort.Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _equal(a: EncodedHop | DecodedHop, b: EncodedHop | DecodedHop) -> bool:
    """Bit for bit."""
    if isinstance(a, EncodedHop) and isinstance(b, EncodedHop):
        return np.array_equal(a.enc, b.enc) and np.array_equal(a.alphas, b.alphas)
    assert isinstance(a, DecodedHop)
    assert isinstance(b, DecodedHop)
    same = all(np.array_equal(a.caches[name], b.caches[name]) for name in a.caches)
    return same and np.array_equal(a.logits, b.logits)
