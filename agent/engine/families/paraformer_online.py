"""Streaming Paraformer: hops of `chunk_size[1]` * 60 ms with look-back and look-ahead.

The two graphs are those of `agent.engine.hops`; between them, outside the graphs, runs CIF.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.cif import CifState
from agent.engine.families.paraformer import DROPPED_IDS, check_vocabulary
from agent.engine.frontend import Frontend
from agent.engine.hops import DecoderHop, HopGraphs
from agent.engine.rejection import NEVER, Rejection
from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS, tokens_to_text
from agent.engine.together import Together, alone
from agent.types import SAMPLE_RATE, Float32, Int16, Recognition, StreamOptions

FAMILY = "paraformer_online"
TASK = "asr_online"
GRAPHS = ("model", "decoder")

FRAME_SAMPLES = SAMPLE_RATE * 60 // 1000
"""Samples of one unit of `chunk_size`."""


@dataclass(frozen=True)
class _Parts:
    """What all streams of a model share."""

    graphs: HopGraphs
    frontend: Frontend
    tokens: Sequence[str]
    dim: int
    threshold: float
    tail_threshold: float
    caches: dict[str, tuple[int, int]]
    """Name of a decoder cache (without in_ or out_) -> its channels and frames."""
    rejection: Rejection = NEVER
    """Of the tokens of one hop: what was said before stands."""
    together: Together = alone
    """How the runs of the graphs are made."""


class ParaformerOnline:
    """Streaming recogniser (`agent.types.OnlineAsrModel`)."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts

    def start_stream(self, options: StreamOptions) -> ParaformerStream:
        """State for one utterance."""
        return ParaformerStream(self._parts, options.chunk_size)

    def proven_batch(self, most: int) -> int:
        """As `agent.engine.together.Batchable` says."""
        parts = self._parts
        return parts.graphs.proven_batch(most, parts.frontend.config.dim, parts.dim)

    def sharing(self, together: Together) -> ParaformerOnline:
        """As `agent.engine.together.Batchable` says."""
        return ParaformerOnline(replace(self._parts, together=together))


class ParaformerStream:
    """One utterance: audio re-blocked to hops, features overlapped, tokens only ever appended."""

    def __init__(self, parts: _Parts, chunk_size: tuple[int, int, int]) -> None:
        self._parts = parts
        self._back, self._hop, self._ahead = chunk_size
        self._features = parts.frontend.start_stream()
        self._audio: Int16 = np.zeros(0, np.int16)
        self._seen = 0
        """Feature frames so far, which is the position of the next one."""
        dim = parts.frontend.config.dim
        self._overlap: Float32 = np.zeros((self._back + self._ahead, dim), np.float32)
        self._cif = CifState(parts.dim, parts.threshold, parts.tail_threshold)
        self._caches = {
            name: np.zeros((1, channels, frames), np.float32)
            for name, (channels, frames) in parts.caches.items()
        }
        self._read: list[str] = []

    def accept(self, samples: Int16) -> Recognition | None:
        """Take the next samples [n]; the whole hypothesis when it grew."""
        self._audio = np.concatenate([self._audio, samples])
        size = self._hop * FRAME_SAMPLES
        before, used = len(self._read), 0
        while len(self._audio) - used >= size:
            self._take(self._features.accept(self._audio[used : used + size]))
            used += size
        self._audio = self._audio[used:]
        return self._recognition() if len(self._read) > before else None

    def finish(self) -> Recognition:
        """Flush look-ahead and tail; the whole hypothesis."""
        features = np.zeros((0, self._overlap.shape[1]), np.float32)
        # As FunASR does: less than one unit behind the last hop brings no frame of its own.
        if len(self._audio) >= FRAME_SAMPLES or not self._seen:
            features = np.concatenate([self._features.accept(self._audio), self._features.finish()])
        if len(features) or self._seen:
            self._take_last(features)
        return self._recognition()

    def _take(self, features: Float32) -> None:
        """One whole hop in the middle of the utterance."""
        if not len(features):
            return
        window = np.concatenate([self._overlap, self._placed(features)])
        keep = self._back + self._ahead
        self._overlap = window[len(window) - keep :]
        self._decode(window, is_last=False)

    def _take_last(self, features: Float32) -> None:
        """The rest: what does not fit beside the look-ahead makes hops of its own first."""
        placed = self._placed(features)
        if self._ahead > self._hop:
            placed = self._take_long_look_ahead(placed)
        elif len(placed) + self._ahead > self._hop:
            window = np.concatenate([self._overlap, placed[: self._hop]])
            # FunASR's left context here: the end of the window, not what precedes the rest.
            self._overlap = window[len(window) - self._back :]
            self._decode(self._filled(window), is_last=False)
            rest = len(placed) + self._ahead - self._hop
            placed = placed[len(placed) - rest :]
        window = np.concatenate([self._overlap, placed])
        if len(window):
            self._decode(window, is_last=True)

    def _take_long_look_ahead(self, placed: Float32) -> Float32:
        """Hops until the undecided frames fit into one; what follows the look-back of the last."""
        frames = np.concatenate([self._overlap, placed])
        while len(frames) - self._back > self._hop:
            self._decode(self._filled(frames[: len(self._overlap) + self._hop]), is_last=False)
            frames = frames[self._hop :]
        self._overlap = frames[: self._back]
        return frames[self._back :]

    def _filled(self, window: Float32) -> Float32:
        """A window of full length, with zeros where the audio has ended."""
        missing = self._back + self._hop + self._ahead - len(window)
        return np.pad(window, ((0, max(0, missing)), (0, 0)))

    def _placed(self, features: Float32) -> Float32:
        """Scaled, and with the position of each frame in the utterance added."""
        scaled = features * np.float32(math.sqrt(self._parts.dim))
        placed: Float32 = scaled + position_encoding(self._seen, *features.shape)
        self._seen += len(features)
        return placed

    def _decode(self, window: Float32, *, is_last: bool) -> None:
        parts = self._parts
        graphs = parts.graphs
        encoded = parts.together((graphs, "encoder", len(window)), graphs.encode, window)
        alphas = encoded.alphas.copy()
        alphas[: self._back] = 0.0
        alphas[self._back + self._hop :] = 0.0
        embeds = self._cif.fire(encoded.enc[0], alphas, is_last=is_last)
        if not len(embeds):
            return
        hop = DecoderHop(encoded, embeds, self._caches)
        alike = (graphs, "decoder", len(window), len(embeds))
        decoded = parts.together(alike, graphs.decode, hop)
        self._caches = decoded.caches
        best = decoded.logits.argmax(axis=-1)
        text = np.flatnonzero(~np.isin(best, DROPPED_IDS))
        if parts.rejection.rejects(decoded.logits, text):
            return
        tokens = [parts.tokens[int(i)] for i in best[text]]
        self._read += [token for token in tokens if token not in SPECIAL_TOKENS]

    def _recognition(self) -> Recognition:
        return Recognition(tokens_to_text(self._read), tuple(self._read))


def position_encoding(start: int, length: int, dim: int) -> Float32:
    """Sinusoidal positions start+1 .. start+length, [length, dim]: sines, then cosines.

    Vaswani et al., "Attention Is All You Need" (2017), in the layout of FunASR's encoders.
    """
    positions = np.arange(start + 1, start + length + 1, dtype=np.float32)
    step = np.float32(math.log(10000.0)) / np.float32(dim / 2 - 1)
    inverse = np.exp(np.arange(dim // 2, dtype=np.float32) * -step)
    angles = positions[:, None] * inverse[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def load(files: ModelFiles, settings: EngineSettings) -> ParaformerOnline:
    """Load encoder and decoder from verified bytes."""
    config = read_config(files)
    tokens = read_tokens(files)
    frontend = read_frontend(files, section(config, "frontend_conf"))
    encoder, decoder = (ort.open_model_graph(files, name, settings) for name in GRAPHS)
    dim = _require_encoder(encoder, frontend.config.dim)
    caches = _require_decoder(decoder, dim)
    check_vocabulary(decoder, tokens)
    predictor = section(config, "predictor_conf")
    return ParaformerOnline(
        _Parts(
            graphs=HopGraphs(encoder, decoder, {name: caches[name][1] for name in caches}),
            frontend=frontend,
            tokens=tokens,
            dim=dim,
            threshold=float(predictor.get("threshold", 1.0)),
            tail_threshold=float(predictor.get("tail_threshold", 0.45)),
            caches=caches,
            rejection=Rejection.from_config(config),
        )
    )


def _require_encoder(encoder: ort.Graph, features: int) -> int:
    """The size of an encoded frame."""
    any_frames = (None, None, None)
    encoder.require(
        {
            "speech": ort.TensorSpec("float", (None, None, features)),
            "speech_lengths": ort.TensorSpec("int32", (None,)),
        },
        {
            "enc": ort.TensorSpec("float", any_frames),
            "enc_len": ort.TensorSpec("int32"),
            "alphas": ort.TensorSpec("float", (None, None)),
        },
    )
    return encoder.outputs["enc"].size(2)


def _require_decoder(decoder: ort.Graph, dim: int) -> dict[str, tuple[int, int]]:
    """The caches: name -> channels and frames."""
    encoded = ort.TensorSpec("float", (None, None, dim))
    decoder.require(
        {
            "enc": encoded,
            "enc_len": ort.TensorSpec("int32", (None,)),
            "acoustic_embeds": encoded,
            "acoustic_embeds_len": ort.TensorSpec("int32", (None,)),
        },
        {"logits": ort.TensorSpec("float", (None, None, None)), "sample_ids": ort.TensorSpec()},
    )
    caches = {
        name.removeprefix("in_"): (tensor.size(1), tensor.size(2))
        for name, tensor in decoder.inputs.items()
        if name.startswith("in_cache_")
    }
    cache = ort.TensorSpec("float", (None, None, None))
    decoder.require(
        {f"in_{name}": cache for name in caches}, {f"out_{name}": cache for name in caches}
    )
    return caches
