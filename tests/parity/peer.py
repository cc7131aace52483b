"""funasr_onnx, FunASR's own ONNX Runtime package, with the numbers inside.

Import it only where funasr_onnx is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import funasr_onnx
import numpy as np
from funasr_onnx import paraformer_online_bin
from funasr_onnx.utils import postprocess_utils
from funasr_onnx.utils.e2e_vad import E2EVadModel
from funasr_onnx.utils.frontend import WavFrontend, WavFrontendOnline
from funasr_onnx.utils.timestamp_utils import time_stamp_lfr6_onnx
from funasr_onnx.vad_bin import Fsmn_vad_online

from agent.types import Float32

OFFLINE = {
    "Paraformer": funasr_onnx.Paraformer,
    "BiCifParaformer": funasr_onnx.Paraformer,
    "ContextualParaformer": funasr_onnx.ContextualParaformer,
    "SeacoParaformer": funasr_onnx.SeacoParaformer,
}
"""Model class in config.yaml -> the class that runs its graphs."""


@dataclass(frozen=True)
class PeerReading:
    """What a Paraformer read in one clip."""

    logits: Float32
    """[L, V]."""
    tokens: list[str]
    us_peaks: Float32 | None
    """[3T] of a model with times."""

    def spans(self) -> list[list[int]]:
        """Times of the tokens in ms as funasr_onnx computes them."""
        return list(time_stamp_lfr6_onnx(self.us_peaks, list(self.tokens))[1])


class Peer:
    """A Paraformer of funasr_onnx whose features carry no noise."""

    def __init__(self, kind: type, folder: Path, *, quantize: bool, threads: int) -> None:
        self._model = kind(str(folder), quantize=quantize, intra_op_num_threads=threads)
        self._model.frontend = without_dither(self._model.frontend)
        self._seen: dict[str, Any] = {}
        self._keep("bb_infer" if hasattr(self._model, "bb_infer") else "infer", "outputs")
        self._keep("decode", "tokens")

    def read(self, wave: Float32, *hotwords: str) -> PeerReading:
        """Let it read a clip; `hotwords` are words with spaces between them."""
        self._seen.clear()
        # It asserts that there is one peak more than tokens, when it has read them already.
        with suppress(AssertionError):
            self._model(wave, *hotwords)
        outputs = self._seen["outputs"]
        peaks = outputs[3][0] if len(outputs) == 4 else None
        return PeerReading(outputs[0][0], self._seen["tokens"][0], peaks)

    def _keep(self, method: str, name: str) -> None:
        """Keep the last output of a method."""
        original = getattr(self._model, method)

        def call(*args: Any) -> Any:
            self._seen[name] = original(*args)
            return self._seen[name]

        setattr(self._model, method, call)


class Streaming:
    """The streaming Paraformer of funasr_onnx, without noise in its features."""

    def __init__(self, folder: Path, size: Sequence[int], *, quantize: bool, threads: int) -> None:
        self._model = paraformer_online_bin.Paraformer(
            str(folder), chunk_size=list(size), quantize=quantize, intra_op_num_threads=threads
        )
        self._model.frontend = without_dither(self._model.frontend)
        self._seen: list[Float32] = []
        original = self._model.decode

        def decode(scores: Float32, counts: Any) -> Any:
            self._seen.append(scores[0])
            return original(scores, counts)

        self._model.decode = decode

    def hops(self, wave: Float32, pieces: Iterable[tuple[slice, bool]]) -> list[Float32]:
        """The decoder's output [tokens, V] for each piece of a clip."""
        state: dict[str, Any] = {"cache": {}, "is_final": False}
        self._model.frontend.cache_reset()
        hops = []
        for piece, is_last in pieces:
            state["is_final"] = is_last
            self._model(wave[piece], param_dict=state)
            hops.append(np.concatenate(self._seen) if self._seen else np.zeros((0, 0), np.float32))
            self._seen.clear()
        return hops


def text_of(tokens: list[str]) -> str | None:
    """The text that FunASR writes for tokens; None where it raises."""
    try:
        return str(postprocess_utils.sentence_postprocess(tokens)[0])
    except ValueError:
        return None


def frontend(folder: Path, conf: dict[str, Any], *, online: bool = False) -> Any:
    """A frontend with the model's CMVN, without noise."""
    kind = WavFrontendOnline if online else WavFrontend
    return without_dither(kind(cmvn_file=str(folder / "am.mvn"), **conf))


def without_dither(found: Any) -> Any:
    """Its default adds noise to the samples."""
    found.opts.frame_opts.dither = 0.0
    found.reset_status()
    return found


def features(found: Any, wave: Float32) -> Float32:
    """Features [n, dim] of a whole clip."""
    made, _ = found.lfr_cmvn(found.fbank(wave)[0])
    return np.asarray(made, np.float32)


class Vad:
    """FSMN-VAD of funasr_onnx, whole and streamed, without noise in its features."""

    def __init__(self, folder: Path, *, quantize: bool, threads: int) -> None:
        options: dict[str, Any] = {"quantize": quantize, "intra_op_num_threads": threads}
        self._whole = funasr_onnx.Fsmn_vad(str(folder), **options)
        self._whole.frontend = without_dither(self._whole.frontend)
        extract = self._whole.extract_feat
        # It takes a vector of one length for a number, which numpy 2.4 refuses.
        self._whole.extract_feat = lambda waves: _with_first(*extract(waves))
        self._online = Fsmn_vad_online(str(folder), **options)
        self._folder = folder

    def whole(self, wave: Float32) -> list[list[int]]:
        """Segments [start, end] in ms."""
        return [list(segment) for segment in self._whole(wave)[0]]

    def streamed(self, wave: Float32, pieces: Sequence[slice]) -> Iterator[list[list[int]]]:
        """What each piece of a recording decides: [start, -1], [-1, end] or [start, end] in ms."""
        conf = self._online.config["frontend_conf"]
        state: dict[str, Any] = {
            "in_cache": [],
            "frontend": frontend(self._folder, conf, online=True),
            # Without one it raises at a first piece that brings no frame.
            "vad_scorer": E2EVadModel(self._online.config["model_conf"]),
        }
        for i, piece in enumerate(pieces):
            state["is_final"] = i == len(pieces) - 1
            found = self._online(wave[piece], param_dict=state)
            yield [list(segment) for segment in found[0]] if found else []


class SenseVoice:
    """SenseVoiceSmall of funasr_onnx, without noise in its features."""

    def __init__(self, folder: Path, *, quantize: bool, threads: int) -> None:
        self._model = funasr_onnx.SenseVoiceSmall(
            str(folder), quantize=quantize, intra_op_num_threads=threads
        )
        self._model.frontend = without_dither(self._model.frontend)
        self._seen: list[Float32] = []
        original = self._model.infer

        def infer(*args: Any) -> Any:
            outputs = original(*args)
            self._seen.append(outputs[0][0])
            return outputs

        self._model.infer = infer

    def read(self, wave: Float32, language: str, *, itn: bool) -> tuple[Float32, str]:
        """The graph's output [T, V] and the text with its tags."""
        self._seen.clear()
        textnorm = "withitn" if itn else "woitn"
        (text,) = self._model(wave, language=language, textnorm=textnorm)
        return self._seen[0], str(text)


def punctuation(folder: Path, *, realtime: bool = False, quantize: bool, threads: int) -> Any:
    """A CT-Transformer of funasr_onnx."""
    kind = funasr_onnx.CT_Transformer_VadRealtime if realtime else funasr_onnx.CT_Transformer
    return kind(str(folder), quantize=quantize, intra_op_num_threads=threads)


def _with_first(made: Float32, lengths: Any) -> tuple[Float32, Any]:
    return made, lengths[0]
