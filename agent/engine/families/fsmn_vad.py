"""FSMN-VAD: speech probabilities of frames by a small streaming graph, then end points.

Graph: speech f32[1,T,400], in_cache0.. f32[1,C,L,1] -> logits f32[1,T,classes] (probabilities),
out_cache0... Class 0 is silence by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.endpoint import EndpointDetector, SpeechDecision, VadParameters
from agent.engine.frontend import Frontend
from agent.engine.side_files import read_config, read_frontend, section
from agent.errors import CompatibilityError
from agent.types import SAMPLE_RATE, SAMPLES_PER_MS, Float32, Int16, VadBoundary

FAMILY = "fsmn_vad"
TASK = "vad"
GRAPHS = ("model",)

HOP_SAMPLES = SAMPLE_RATE // 10
"""Audio of one run. Fixed, since the ranges of dynamic int8 depend on what is run together."""
_FULL_SCALE = 32768.0
_LEVEL_FLOOR = 1e-6
_QUIETEST = 10 * np.log10(_LEVEL_FLOOR)
"""Level in dB of digital silence; thresholds below it let every frame pass."""


class FsmnVad:
    """Voice activity detector (`agent.types.VadModel`)."""

    def __init__(
        self,
        graph: ort.Graph,
        frontend: Frontend,
        parameters: VadParameters,
        published: Mapping[str, Any] | None = None,
    ) -> None:
        """`published`: the parameters of its config.yaml, which `tuned` starts from."""
        self._graph = graph
        self._frontend = frontend
        self._published = published or {}
        self.parameters = parameters
        self._caches = {
            name.removeprefix("in_"): tuple(tensor.size(axis) for axis in range(4))
            for name, tensor in graph.inputs.items()
            if name.startswith("in_cache")
        }
        if not self._caches:
            raise CompatibilityError(
                "the graph keeps no state (no in_cache0): use the streaming export",
                file=graph.name,
            )
        cache = ort.TensorSpec("float", (None, None, None, None))
        graph.require({}, {f"out_{name}": cache for name in self._caches})
        classes = graph.outputs["logits"].shape[-1]
        highest = max(parameters.sil_pdf_ids, default=-1)
        if isinstance(classes, int) and not 0 <= highest < classes:
            raise CompatibilityError(
                f"sil_pdf_ids names class {highest}, the graph has {classes}", file="config.yaml"
            )

    def start_stream(self) -> FsmnVadStream:
        """A fresh stream."""
        caches = {name: np.zeros(shape, np.float32) for name, shape in self._caches.items()}
        return FsmnVadStream(self._graph, self._frontend, self.parameters, caches)

    def tuned(self, overrides: Mapping[str, Any]) -> FsmnVad:
        """The same graph with other parameters (`agent.engine.base.Tunable`)."""
        parameters = VadParameters.from_config(self._published, overrides)
        return FsmnVad(self._graph, self._frontend, parameters, self._published)


class FsmnVadStream:
    """One stream, re-blocked to hops of 100 ms."""

    def __init__(
        self,
        graph: ort.Graph,
        frontend: Frontend,
        parameters: VadParameters,
        caches: dict[str, Float32],
    ) -> None:
        self._graph = graph
        self._features = frontend.start_stream()
        self._levels = FrameLevels(parameters)
        self._caches = caches
        self._decision = SpeechDecision(parameters)
        self._detector = EndpointDetector(parameters)
        self._audio: Int16 = np.zeros(0, np.int16)

    def accept(self, samples: Int16) -> list[VadBoundary]:
        """Take the next samples [n] and return the boundaries that they decide."""
        self._audio = np.concatenate([self._audio, samples])
        out: list[VadBoundary] = []
        used = 0
        while len(self._audio) - used >= HOP_SAMPLES:
            hop = self._audio[used : used + HOP_SAMPLES]
            self._levels.accept(hop)
            out += self._detector.accept(self._decide(self._features.accept(hop)))
            used += HOP_SAMPLES
        self._audio = self._audio[used:]
        return out

    def finish(self) -> list[VadBoundary]:
        """End the stream: the boundaries still open."""
        self._levels.accept(self._audio)
        rest = np.concatenate([self._features.accept(self._audio), self._features.finish()])
        return self._detector.finish(self._decide(rest))

    def _decide(self, features: Float32) -> list[bool]:
        if not len(features):
            return []
        feeds = {"speech": features[None]}
        feeds.update({f"in_{name}": cache for name, cache in self._caches.items()})
        outputs = self._graph.run(feeds)
        for name, cache in self._caches.items():
            self._caches[name] = outputs[f"out_{name}"][:, :, -cache.shape[2] :]
        ort.require_finite(outputs["logits"], "logits", file=self._graph.name)
        return self._decision.decide(outputs["logits"][0], self._levels.take(len(features)))


class FrameLevels:
    """Levels of frames in dB, computed only when a threshold can depend on them."""

    def __init__(self, parameters: VadParameters) -> None:
        self._length = parameters.frame_length_ms * SAMPLES_PER_MS
        self._shift = parameters.frame_in_ms * SAMPLES_PER_MS
        self._wanted = parameters.decibel_thres > _QUIETEST or parameters.snr_thres > -100.0
        self._audio: Int16 = np.zeros(0, np.int16)

    def accept(self, samples: Int16) -> None:
        """Take the samples [n] behind the next frames."""
        if self._wanted:
            self._audio = np.concatenate([self._audio, samples])

    def take(self, frames: int) -> Float32:
        """Levels [frames] of the next frames: 10 log10 of the energy of samples in -1 to 1."""
        if not self._wanted:
            return np.zeros(frames, np.float32)
        needed = (frames - 1) * self._shift + self._length
        scaled = self._audio[:needed].astype(np.float64) / _FULL_SCALE
        windows = np.lib.stride_tricks.sliding_window_view(scaled, self._length)[:: self._shift]
        self._audio = self._audio[frames * self._shift :]
        energy = np.square(windows[:frames]).sum(axis=1)
        levels: Float32 = (10 * np.log10(energy + _LEVEL_FLOOR)).astype(np.float32)
        return levels


def load(files: ModelFiles, settings: EngineSettings) -> FsmnVad:
    """Load from verified bytes; config.yaml may be of either generation of FunASR."""
    config = read_config(files)
    old = section(config, "WavFrontend")
    frontend_conf = section(old, "frontend_conf") if old else section(config, "frontend_conf")
    published = section(config, "vadPostArgs") or section(config, "model_conf")
    parameters = VadParameters.from_config(published, settings.vad)
    frontend = read_frontend(files, frontend_conf)
    graph = ort.open_model_graph(files, "model", settings)
    graph.require(
        {"speech": ort.TensorSpec("float", (None, None, frontend.config.dim))},
        {"logits": ort.TensorSpec("float", (None, None, None))},
    )
    return FsmnVad(graph, frontend, parameters, published)
