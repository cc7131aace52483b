"""Features: Kaldi filter banks, stacked frames (LFR) and CMVN, whole or streamed.

After FunASR's WavFrontend: samples in int16 scale, Hamming window of 25 ms every 10 ms, 80 mel
bins, edges snipped, no dither; `lfr_m` frames stacked every `lfr_n`, with copies of the first
frame on the left and of the last on the right; feature = (x + shift) * scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kaldi_native_fbank
import numpy as np
from numpy.typing import NDArray

from agent.errors import ManifestError
from agent.types import SAMPLE_RATE, Float32, Int16

_FEED = 16000
"""Samples handed to the filter bank at a time, so that its own buffer stays small."""
_CMVN_LINE = re.compile(r"<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]")


@dataclass(frozen=True)
class FrontendConfig:
    """`frontend_conf` of a model's config.yaml."""

    n_mels: int = 80
    frame_length_ms: int = 25
    frame_shift_ms: int = 10
    lfr_m: int = 7
    lfr_n: int = 6
    window: str = "hamming"

    @property
    def dim(self) -> int:
        """Size of one feature vector."""
        return self.n_mels * self.lfr_m

    @classmethod
    def from_config(cls, conf: Mapping[str, Any]) -> FrontendConfig:
        """Raises ManifestError for a sampling rate other than the agent's."""
        rate = conf.get("fs", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise ManifestError(
                f"frontend_conf.fs is {rate}, the agent works at {SAMPLE_RATE} Hz",
                file="config.yaml",
            )
        default = cls()
        try:
            return cls(
                n_mels=int(conf.get("n_mels", default.n_mels)),
                frame_length_ms=int(conf.get("frame_length", default.frame_length_ms)),
                frame_shift_ms=int(conf.get("frame_shift", default.frame_shift_ms)),
                lfr_m=int(conf.get("lfr_m", default.lfr_m)),
                lfr_n=int(conf.get("lfr_n", default.lfr_n)),
                window=str(conf.get("window", default.window)),
            )
        except (TypeError, ValueError) as error:
            raise ManifestError(f"frontend_conf: {error}", file="config.yaml") from None


@dataclass(frozen=True)
class Cmvn:
    """Mean and variance normalisation: feature = (x + shift) * scale."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return len(self.shift)


def parse_cmvn(data: bytes, *, file: str = "am.mvn") -> Cmvn:
    """Read Kaldi's text form of `am.mvn`. Raises ManifestError when it is not one."""
    text = data.decode("utf-8", errors="replace")
    vectors = []
    for section in ("<AddShift>", "<Rescale>"):
        _, found, rest = text.partition(section)
        match = _CMVN_LINE.search(rest) if found else None
        if match is None:
            raise ManifestError(f"{section} with a <LearnRateCoef> vector is missing", file=file)
        try:
            vectors.append(np.array(match[1].split(), np.float64))
        except ValueError as error:
            raise ManifestError(
                f"{section} is not a vector of numbers: {error}", file=file
            ) from None
    if len(vectors[0]) != len(vectors[1]):
        raise ManifestError(
            f"<AddShift> has {len(vectors[0])} values, <Rescale> {len(vectors[1])}", file=file
        )
    return Cmvn(vectors[0], vectors[1])


class Frontend:
    """Makes streams of features; holds no audio."""

    def __init__(self, config: FrontendConfig, cmvn: Cmvn) -> None:
        """Raises ManifestError when the CMVN vectors don't fit the features."""
        if cmvn.dim != config.dim:
            raise ManifestError(
                f"it is for {cmvn.dim} values, the features have {config.dim} "
                f"({config.n_mels} mel bins x {config.lfr_m} frames)",
                file="am.mvn",
            )
        self.config = config
        self.cmvn = cmvn

    def start_stream(self) -> FeatureStream:
        """A fresh stream."""
        return FeatureStream(self.config, self.cmvn)

    def whole(self, samples: Int16) -> Float32:
        """Features [n, dim] of a whole utterance; n is 0 for less than one frame of audio."""
        stream = self.start_stream()
        return np.concatenate([stream.accept(samples), stream.finish()])


class FeatureStream:
    """Features of one stream; the same for any cut of the audio. Memory stays bounded."""

    def __init__(self, config: FrontendConfig, cmvn: Cmvn) -> None:
        self._config = config
        self._cmvn = cmvn
        self._fbank = kaldi_native_fbank.OnlineFbank(_fbank_options(config))
        self._taken = 0
        """Filter-bank frames taken so far."""
        self._frames: Float32 = np.zeros((0, config.n_mels), np.float32)
        """Frames not consumed yet, with the copies on the left."""

    def accept(self, samples: Int16) -> Float32:
        """Take the next samples [n]; the features [m, dim] that they decide."""
        for first in range(0, len(samples), _FEED):
            scaled = samples[first : first + _FEED].astype(np.float32)
            self._fbank.accept_waveform(SAMPLE_RATE, scaled)
            self._take_frames()
        m, n = self._config.lfr_m, self._config.lfr_n
        return self._stack(max(0, (len(self._frames) - m) // n + 1) if self._taken else 0)

    def finish(self) -> Float32:
        """The rest, [m, dim], filled up with copies of the last frame."""
        if not self._taken:
            return np.zeros((0, self._config.dim), np.float32)
        m, n = self._config.lfr_m, self._config.lfr_n
        left = (m - 1) // 2
        count = max(0, -(-(len(self._frames) - left) // n))
        missing = (count - 1) * n + m - len(self._frames)
        if missing > 0:
            self._frames = np.concatenate(
                [self._frames, np.repeat(self._frames[-1:], missing, axis=0)]
            )
        return self._stack(count)

    def _take_frames(self) -> None:
        ready = self._fbank.num_frames_ready
        if ready == self._taken:
            return
        new = np.stack([self._fbank.get_frame(i) for i in range(self._taken, ready)])
        self._fbank.pop(ready - self._taken)
        if not self._taken:
            left = np.repeat(new[:1], (self._config.lfr_m - 1) // 2, axis=0)
            new = np.concatenate([left, new])
        self._frames = np.concatenate([self._frames, new])
        self._taken = ready

    def _stack(self, count: int) -> Float32:
        """The first `count` stacked and normalised features; their frames are consumed."""
        m, n, mels = self._config.lfr_m, self._config.lfr_n, self._config.n_mels
        if count <= 0:
            return np.zeros((0, m * mels), np.float32)
        used = np.ascontiguousarray(self._frames[: (count - 1) * n + m])
        windows = np.lib.stride_tricks.as_strided(
            used,
            (count, m * mels),
            (n * used.strides[0], used.strides[1]),
            writeable=False,
        )
        self._frames = self._frames[count * n :]
        # Double precision, rounded once, as FunASR does: int8 graphs turn a last bit into a token.
        return ((windows + self._cmvn.shift) * self._cmvn.scale).astype(np.float32)


def _fbank_options(config: FrontendConfig) -> Any:
    options = kaldi_native_fbank.FbankOptions()
    frames = options.frame_opts
    frames.samp_freq = float(SAMPLE_RATE)
    frames.dither = 0.0
    frames.window_type = config.window
    frames.frame_length_ms = float(config.frame_length_ms)
    frames.frame_shift_ms = float(config.frame_shift_ms)
    frames.snip_edges = True
    options.mel_opts.num_bins = config.n_mels
    options.energy_floor = 0.0
    return options
