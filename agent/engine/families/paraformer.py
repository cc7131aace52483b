"""Paraformer, the offline recogniser: one pass over a whole segment.

Graph: speech f32[B,T,560], speech_lengths i32[B] -> logits f32[B,L,V], token_num i32[B].
With times (BiCif, SeACo): and us_alphas, us_cif_peak f32[B,3T].
With hotwords (contextual, SeACo): and an input bias_embed f32[B,N,D], whose rows the graph
`model_eb` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.biasing import HotwordEncoder
from agent.engine.frontend import Frontend
from agent.engine.greedy import Ids, best_ids
from agent.engine.open_axis import open_axis
from agent.engine.phrases import SegDict, Segmenter
from agent.engine.rejection import NEVER, Rejection
from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS, text_rule
from agent.engine.timestamps import Spans, cif_spans, within
from agent.errors import CompatibilityError, InferenceError, ManifestError
from agent.said import say
from agent.types import SAMPLES_PER_MS, Float32, Int16, Recognition, StreamOptions

FAMILY = "paraformer"
TASK = "asr_offline"
GRAPHS = ("model",)
OPTIONAL_GRAPHS = ("model_eb",)
"""There when the model takes hotwords."""

DROPPED_IDS = (0, 2)
"""Blank and end of sentence."""

_NO_TOKEN = ("Invalid input shape: {0}", "Input shape:{0,")
"""How the runtime refuses what follows the predictor (the decoder's convolution, or CIF's own
loop) when it fires no token at all."""
_SEG_DICT = "seg_dict"


@dataclass(frozen=True)
class _Decoding:
    """How the graph's output becomes text."""

    tokens: Sequence[str]
    predictor_bias: int
    """Tokens that `token_num` counts beside those of the text: the end of sentence."""
    rejection: Rejection = NEVER


class Paraformer:
    """Offline recogniser (`agent.types.OfflineAsrModel`)."""

    def __init__(
        self,
        graph: ort.Graph,
        frontend: Frontend,
        decoding: _Decoding,
        model_id: str,
        encoder: HotwordEncoder | None = None,
    ) -> None:
        self._graph = graph
        self._frontend = frontend
        self._decoding = decoding
        self._to_text = text_rule(decoding.tokens)
        self._model_id = model_id
        self._encoder = encoder

    @property
    def can_bias(self) -> bool:
        """Whether hotwords change what it reads."""
        return self._encoder is not None

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        """What of the options it can't honour. Reads seg_dict through for a new list of hotwords:
        not for an event loop."""
        if not options.hotwords:
            return ()
        if self._encoder is None:
            return (hotwords_ignored(self._model_id),)
        reasons = self._encoder.segmented(_phrases(options)).reasons
        if len({weight for _, weight in options.hotwords}) > 1:
            ignored = "weights of hotwords are ignored: {model} has none"
            return (say("hotword_weights", ignored, model=self._model_id), *reasons)
        return reasons

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        """Recognise each item, [n] samples, on its own: dynamic int8 takes its range over a whole
        batch, so batching would change the numbers. Raises InferenceError."""
        bias = None if self._encoder is None else self._encoder.rows(_phrases(options))
        return [self._decode_one(samples, bias) for samples in batch]

    def _decode_one(self, samples: Int16, bias: Float32 | None) -> Recognition:
        features = self._frontend.whole(samples)
        if not len(features):
            return Recognition("")
        feeds = {"speech": features[None], "speech_lengths": ort.int32(len(features))}
        if bias is not None:
            feeds["bias_embed"] = bias[None]
        try:
            outputs = self._graph.run(feeds)
        except InferenceError as error:
            if any(sign in error.message for sign in _NO_TOKEN):
                return Recognition("")
            raise
        logits = outputs["logits"][0]
        best = best_ids(logits, "logits", file=self._graph.name)
        peaks = outputs.get("us_cif_peak")
        number = float(outputs["token_num"][0])
        count = int(number) if peaks is None else round(number)
        spans: Spans = ()
        if peaks is not None:
            spans = within(cif_spans(peaks[0], count), len(samples) // SAMPLES_PER_MS)
        text = np.flatnonzero(~np.isin(best, DROPPED_IDS))
        text = text[: max(0, count - self._decoding.predictor_bias)]
        if self._decoding.rejection.rejects(logits, text):
            return Recognition("")
        return self._read(best, text, spans)

    def _read(self, best: Ids, text: Ids, spans: Spans) -> Recognition:
        """The text at the positions `text` of the best ids."""
        named = [(int(i), self._decoding.tokens[best[i]]) for i in text]
        kept = [(i, token) for i, token in named if token not in SPECIAL_TOKENS]
        tokens = tuple(token for _, token in kept)
        times = tuple(spans[i] for i, _ in kept) if all(i < len(spans) for i, _ in kept) else ()
        return Recognition(self._to_text(tokens), tokens, times)


def hotwords_ignored(model_id: str) -> str:
    """What a model without an input for hotwords says of them."""
    return say(
        "hotwords_no_input", "hotwords are ignored: {model} has no input for them", model=model_id
    )


def check_vocabulary(graph: ort.Graph, tokens: Sequence[str], output: str = "logits") -> None:
    """Raises CompatibilityError when tokens.json does not fit the graph's output."""
    size = graph.outputs[output].shape[-1]
    if isinstance(size, int) and size != len(tokens):
        raise CompatibilityError(
            f"has {len(tokens)} tokens, the graph puts out {size}", file="tokens.json"
        )


def check_inputs(graph: ort.Graph, known: Sequence[str]) -> None:
    """Raises CompatibilityError when the graph asks for an input that the family has not."""
    unknown = [name for name in graph.inputs if name not in known]
    if unknown:
        raise CompatibilityError(
            f"the graph has inputs that this family does not know: {', '.join(unknown)}; it takes "
            f"{', '.join(known)}",
            file=graph.name,
        )


def load(files: ModelFiles, settings: EngineSettings) -> Paraformer:
    """Load from verified bytes."""
    config = read_config(files)
    tokens = read_tokens(files)
    frontend = read_frontend(files, section(config, "frontend_conf"))
    bias = _predictor_bias(section(config, "model_conf"))
    graph = ort.open_model_graph(files, "model", settings)
    row = ort.TensorSpec("float", (None, None))
    optional_inputs = {"bias_embed": ort.TensorSpec("float", (None, None, None))}
    optional_outputs = {"us_alphas": row, "us_cif_peak": row}
    graph.require(
        {
            "speech": ort.TensorSpec("float", (None, None, frontend.config.dim)),
            "speech_lengths": ort.TensorSpec("int32", (None,)),
            **{name: spec for name, spec in optional_inputs.items() if name in graph.inputs},
        },
        {
            "logits": ort.TensorSpec("float", (None, None, None)),
            "token_num": ort.TensorSpec(None, (None,)),
            **{name: spec for name, spec in optional_outputs.items() if name in graph.outputs},
        },
    )
    check_inputs(graph, ("speech", "speech_lengths", *optional_inputs))
    check_vocabulary(graph, tokens)
    encoder = None
    if "bias_embed" in graph.inputs:
        encoder = _encoder(files, settings, tokens, graph.inputs["bias_embed"].size(2))
    decoding = _Decoding(tokens, bias, Rejection.from_config(config))
    return Paraformer(graph, frontend, decoding, files.model_id, encoder)


def _encoder(
    files: ModelFiles, settings: EngineSettings, tokens: Sequence[str], dim: int
) -> HotwordEncoder:
    data = open_axis(open_axis(files.graph("model_eb"), "hotword", 1), "hw_embed", 0)
    graph = ort.open_graph(
        data,
        name=f"{files.model_id}/model_eb",
        threads=settings.threads,
        provider=settings.provider,
        profile_dir=settings.profile_dir,
        low_memory=settings.low_memory,
    )
    seg_dict = SegDict(files.read(_SEG_DICT) if files.has(_SEG_DICT) else b"")
    encoder = HotwordEncoder(graph, Segmenter(tokens, seg_dict), dim)
    check_inputs(graph, ("hotword",))
    return encoder


def _predictor_bias(model_conf: dict[str, object]) -> int:
    """FunASR's own default is 0; its published configs have 1."""
    bias = model_conf.get("predictor_bias", 0)
    if not isinstance(bias, int) or bias < 0:
        raise ManifestError(f"model_conf.predictor_bias is {bias!r}, no count", file="config.yaml")
    return bias


def _phrases(options: StreamOptions) -> tuple[str, ...]:
    return tuple(phrase for phrase, _ in options.hotwords)
