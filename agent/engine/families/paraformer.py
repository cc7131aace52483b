"""Paraformer, the offline recogniser: one pass over a whole segment.

Graph: speech f32[B,T,560], speech_lengths i32[B] -> logits f32[B,L,V], token_num i32[B].
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.frontend import Frontend
from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS, tokens_to_text
from agent.errors import CompatibilityError, InferenceError
from agent.types import Int16, Recognition, StreamOptions

FAMILY = "paraformer"
TASK = "asr_offline"
GRAPHS = ("model",)

DROPPED_IDS = (0, 2)
"""Blank and end of sentence."""


_NO_TOKEN = "Invalid input shape: {0}"
"""How the runtime refuses the decoder's convolution when the predictor fires no token at all."""


class Paraformer:
    """Offline recogniser (`agent.types.OfflineAsrModel`)."""

    def __init__(
        self, graph: ort.Graph, frontend: Frontend, tokens: Sequence[str], predictor_bias: int
    ) -> None:
        self._graph = graph
        self._frontend = frontend
        self._tokens = tokens
        self._bias = predictor_bias

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        """Recognise each item, [n] samples, on its own: dynamic int8 takes its range over a whole
        batch, so batching would change the numbers."""
        return [self._decode_one(samples) for samples in batch]

    def _decode_one(self, samples: Int16) -> Recognition:
        features = self._frontend.whole(samples)
        if not len(features):
            return Recognition("")
        try:
            outputs = self._graph.run(
                {"speech": features[None], "speech_lengths": ort.int32(len(features))}
            )
        except InferenceError as error:
            if _NO_TOKEN in error.message:
                return Recognition("")
            raise
        ort.require_finite(outputs["logits"], "logits", file=self._graph.name)
        best = outputs["logits"][0].argmax(axis=-1)
        ids = [int(i) for i in best if i not in DROPPED_IDS]
        ids = ids[: max(0, int(outputs["token_num"][0]) - self._bias)]
        tokens = tuple(t for t in (self._tokens[i] for i in ids) if t not in SPECIAL_TOKENS)
        return Recognition(tokens_to_text(tokens), tokens)


def check_vocabulary(graph: ort.Graph, tokens: Sequence[str]) -> None:
    """Raises CompatibilityError when tokens.json does not fit the graph's output."""
    size = graph.outputs["logits"].shape[-1]
    if isinstance(size, int) and size != len(tokens):
        raise CompatibilityError(
            f"has {len(tokens)} tokens, the graph puts out {size}", file="tokens.json"
        )


def load(files: ModelFiles, settings: EngineSettings) -> Paraformer:
    """Load from verified bytes."""
    config = read_config(files)
    tokens = read_tokens(files)
    frontend = read_frontend(files, section(config, "frontend_conf"))
    graph = ort.open_graph(
        files.graph("model"),
        name=f"{files.model_id}/model",
        threads=settings.threads,
        provider=settings.provider,
        profile_dir=settings.profile_dir,
    )
    graph.require(
        {
            "speech": ort.TensorSpec("float", (None, None, frontend.config.dim)),
            "speech_lengths": ort.TensorSpec("int32", (None,)),
        },
        {
            "logits": ort.TensorSpec("float", (None, None, None)),
            "token_num": ort.TensorSpec(None, (None,)),
        },
    )
    check_vocabulary(graph, tokens)
    bias = int(section(config, "model_conf").get("predictor_bias", 1))
    return Paraformer(graph, frontend, tokens, bias)
