"""Plain ONNX Runtime decoding of exported folders, whole-file and streaming, for evaluation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import yaml

from .features import lfr
from .vad_data import read_mvn, stack
from .vocabulary import BLANK, EOS, SOS

# What ONNX Runtime raises where the exported CIF yields no token at all.
_EMPTY = (
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
)
SPECIAL = (BLANK, SOS, EOS)
LEFT, HOP, RIGHT = 5, 10, 5  # Stacked frames of 60 ms: 300 ms left, 600 ms hop, 300 ms right.


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _believed(logits: np.ndarray, least: float, count: int | None = None) -> list[int]:
    """The tokens of `logits` (L, V), of which `count` are text, where the model is sure enough."""
    best = logits.argmax(-1)
    text = np.flatnonzero(~np.isin(best, SPECIAL))[:count]
    exponents = np.exp(logits[text] - logits[text].max(-1, keepdims=True))
    if text.size and (1.0 / exponents.sum(-1)).mean() < least:
        return []
    return best[text].tolist()


class Offline:
    """Whole-file recogniser."""

    def __init__(self, folder: Path, suffix: str = "_quant") -> None:
        """Open model{suffix}.onnx of a folder."""
        self._session = _session(folder / f"model{suffix}.onnx")
        self._shift, self._scale = read_mvn(folder / "am.mvn")
        conf = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        self._bias = conf["model_conf"]["predictor_bias"]
        self._least = conf.get("rejection_conf", {}).get("min_probability", 0.0)

    def __call__(self, mel: np.ndarray) -> list[int]:
        """Decode mel energies to token ids."""
        speech = ((lfr(mel) + self._shift) * self._scale)[None].astype(np.float32)
        feed = {"speech": speech, "speech_lengths": np.array([speech.shape[1]], np.int32)}
        try:
            logits, count = self._session.run(None, feed)[:2]
        except _EMPTY:
            return []  # No CIF fire at all: the exported graph fails on zero tokens.
        return _believed(logits[0], self._least, max(0, int(count[0]) - self._bias))


def _position(start: int, count: int, depth: int) -> np.ndarray:
    """Sinusoidal encoding of positions start + 1 ... as FunASR's online encoder has it."""
    step = -math.log(10000.0) / (depth / 2 - 1)
    angles = np.outer(np.arange(start + 1, start + count + 1), np.exp(np.arange(depth / 2) * step))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Online:
    """Streaming recogniser: 600 ms hops, CIF and decoder caches across hops."""

    def __init__(self, folder: Path, suffix: str = "_quant") -> None:
        """Open model{suffix}.onnx and decoder{suffix}.onnx of a folder."""
        self._encoder = _session(folder / f"model{suffix}.onnx")
        self._decoder = _session(folder / f"decoder{suffix}.onnx")
        self._shift, self._scale = read_mvn(folder / "am.mvn")
        conf = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        self._dim = conf["encoder_conf"]["output_size"]
        self._layers = conf["decoder_conf"]["num_blocks"]
        self._memory = conf["decoder_conf"]["kernel_size"] - 1
        self._threshold = conf["predictor_conf"]["threshold"]
        self._tail = conf["predictor_conf"]["tail_threshold"]
        self._least = conf.get("rejection_conf", {}).get("min_probability", 0.0)

    def _fire(
        self, hidden: np.ndarray, alphas: np.ndarray, state: tuple[float, np.ndarray]
    ) -> tuple[list[np.ndarray], tuple[float, np.ndarray]]:
        """Integrate and fire; `state` is what the last hop left over."""
        weight, frame = state
        fired: list[np.ndarray] = []
        for alpha, vector in zip(alphas.tolist(), hidden, strict=True):
            if weight + alpha < self._threshold:
                weight += alpha
                frame = frame + alpha * vector
            else:
                fired.append(frame + (self._threshold - weight) * vector)
                weight += alpha - self._threshold
                frame = weight * vector
        return fired, (weight, frame)

    def __call__(self, mel: np.ndarray) -> list[int]:
        """Decode mel energies hop by hop to token ids."""
        features = (lfr(mel) + self._shift) * self._scale
        count, width = features.shape
        features = features * math.sqrt(self._dim) + _position(0, count, width)
        # As FunASR's runtime does, the stream starts with empty frames before the first hop.
        lead = LEFT + RIGHT
        features = np.concatenate([np.zeros((lead, width)), features]).astype(np.float32)
        caches = [np.zeros((1, self._dim, self._memory), np.float32)] * self._layers
        state = (0.0, np.zeros(self._dim, np.float32))
        ids: list[int] = []
        start, last = 0, False
        while not last:
            window = features[start : start + LEFT + HOP + RIGHT]
            last = start + LEFT + HOP >= len(features)
            length = np.array([len(window)], np.int32)
            feed = {"speech": window[None], "speech_lengths": length}
            enc, enc_len, alphas = self._encoder.run(None, feed)
            alphas = alphas[0].copy()
            alphas[:LEFT] = 0.0
            alphas[LEFT + HOP :] = 0.0
            hidden = enc[0]
            if last:
                alphas = np.append(alphas, np.float32(self._tail))
                hidden = np.concatenate([hidden, np.zeros((1, self._dim), np.float32)])
            fired, state = self._fire(hidden, alphas, state)
            if fired:
                feed = {
                    "enc": enc,
                    "enc_len": enc_len.astype(np.int32),
                    "acoustic_embeds": np.stack(fired)[None].astype(np.float32),
                    "acoustic_embeds_len": np.array([len(fired)], np.int32),
                }
                feed |= {f"in_cache_{i}": cache for i, cache in enumerate(caches)}
                logits, _, *fresh = self._decoder.run(None, feed)
                caches = [cache[:, :, -self._memory :] for cache in fresh]
                ids += _believed(logits[0], self._least)
            start += HOP
        return ids


class Detector:
    """Voice activity detector with the published post-processing's window (simplified)."""

    WINDOW, ENTER, LEAVE, END, BACK, AHEAD = 20, 15, 5, 80, 20, 10

    def __init__(self, folder: Path, suffix: str = "") -> None:
        """Open the streaming graph model{suffix}.onnx."""
        self._session = _session(folder / f"model{suffix}.onnx")
        self._shift, self._scale = read_mvn(folder / "am.mvn")
        self._caches = [
            (i.name, [d if isinstance(d, int) else 1 for d in i.shape])
            for i in self._session.get_inputs()[1:]
        ]

    def speech(self, mel: np.ndarray) -> np.ndarray:
        """Frame decisions: probability of speech at least that of silence plus 0.6."""
        features = ((stack(mel) + self._shift) * self._scale)[None].astype(np.float32)
        feed = {"speech": features} | {n: np.zeros(s, np.float32) for n, s in self._caches}
        silence = self._session.run(None, feed)[0][0, :, 0]
        return (1.0 - silence) >= silence + 0.6

    def segments(self, mel: np.ndarray) -> list[tuple[int, int]]:
        """Segments in ms."""
        decisions = self.speech(mel).astype(int)
        found: list[tuple[int, int]] = []
        start, quiet, inside, total = -1, 0, False, 0
        for frame, decision in enumerate(decisions):
            total += decision - (decisions[frame - self.WINDOW] if frame >= self.WINDOW else 0)
            if not inside and total >= self.ENTER:
                inside = True
                if start < 0:
                    start = max(0, frame - self.WINDOW - self.BACK + 1)
            elif inside and total <= self.LEAVE:
                inside = False
            quiet = 0 if inside else quiet + 1
            if start >= 0 and quiet >= self.END - self.WINDOW:
                found.append((start * 10, (frame - quiet + self.AHEAD) * 10))
                start, quiet = -1, 0
        if start >= 0:
            found.append((start * 10, len(decisions) * 10))
        return found
