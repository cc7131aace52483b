"""SenseVoiceSmall: speech in five languages, with what is felt and heard beside the words.

Graph: speech f32[B,T,560], speech_lengths i32[B], language i32[B], textnorm i32[B] ->
ctc_logits f32[B,T+4,V], encoder_out_lens i32[B]. The first four frames answer what the graph puts
before the speech: language, emotion, event and text form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.families.paraformer import check_inputs, check_vocabulary, hotwords_ignored
from agent.engine.frontend import Frontend
from agent.engine.greedy import Run, best_ids, collapse
from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS, pieces_to_text
from agent.engine.timestamps import ctc_spans, within
from agent.said import say
from agent.types import SAMPLES_PER_MS, Int16, Recognition, StreamOptions

FAMILY = "sensevoice"
TASK = "asr_offline"
GRAPHS = ("model",)

LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, "nospeech": 13}
"""What a client may ask for -> index of the language query."""
WITH_ITN, WITHOUT_ITN = 14, 15
"""Indices of the text form query: numbers as digits and with punctuation, or words alone."""
QUERIES = 4
"""Frames before those of the speech."""

_TAG = re.compile(r"<\|(.*)\|>")
_UNKNOWN = frozenset(("EMO_UNKNOWN", "Event_UNK"))
_NO_SPEECH = "nospeech"


@dataclass(frozen=True)
class Tags:
    """What the four query frames say; empty where unknown."""

    language: str = ""
    emotion: str = ""
    event: str = ""
    has_speech: bool = True


class SenseVoice:
    """Offline recogniser (`agent.types.OfflineAsrModel`)."""

    can_bias = False

    def __init__(
        self, graph: ort.Graph, frontend: Frontend, tokens: Sequence[str], model_id: str
    ) -> None:
        self._graph = graph
        self._frontend = frontend
        self._tokens = tokens
        self._model_id = model_id

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        """What of the options it can't honour."""
        found = []
        if options.hotwords:
            found.append(hotwords_ignored(self._model_id))
        if language_index(options.language) is None:
            found.append(
                say(
                    "language_unknown",
                    "language {language!r} is not known to {model}, it finds out itself; it knows "
                    "{known}",
                    language=options.language,
                    model=self._model_id,
                    known=", ".join(LANGUAGES),
                )
            )
        return tuple(found)

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        """Recognise each item, [n] samples, on its own: dynamic int8 takes its range over a whole
        batch, so batching would change the numbers. Raises InferenceError."""
        language = language_index(options.language) or LANGUAGES["auto"]
        # The graph writes both or neither; what it leaves out is put in behind it.
        written = options.itn and options.punctuation
        return [self._decode_one(samples, language, written=written) for samples in batch]

    def _decode_one(self, samples: Int16, language: int, *, written: bool) -> Recognition:
        features = self._frontend.whole(samples)
        if not len(features):
            return Recognition("")
        outputs = self._graph.run(
            {
                "speech": features[None],
                "speech_lengths": ort.int32(len(features)),
                "language": ort.int32(language),
                "textnorm": ort.int32(WITH_ITN if written else WITHOUT_ITN),
            }
        )
        logits = outputs["ctc_logits"][0][: int(outputs["encoder_out_lens"][0])]
        best = best_ids(logits, "ctc_logits", file=self._graph.name)
        tags = read_tags([self._tokens[i] for i in best[:QUERIES]])
        spoken = [run for run in collapse(best) if run.first >= QUERIES and self._is_text(run)]
        if not tags.has_speech or not spoken:
            return Recognition("", language=tags.language, emotion=tags.emotion, event=tags.event)
        tokens = tuple(self._tokens[run.id] for run in spoken)
        spans = ctc_spans([(run.first - QUERIES, run.behind - QUERIES) for run in spoken])
        return Recognition(
            pieces_to_text(tokens),
            tokens,
            within(spans, len(samples) // SAMPLES_PER_MS),
            tags.language,
            tags.emotion,
            tags.event,
            formatted=written,
        )

    def _is_text(self, run: Run) -> bool:
        token = self._tokens[run.id]
        return token not in SPECIAL_TOKENS and not _TAG.fullmatch(token)


def language_index(language: str) -> int | None:
    """Index of a language, also of `en-US` or `ZH`; None when the model does not know it."""
    name = language.strip().lower() or "auto"
    return LANGUAGES.get(name, LANGUAGES.get(re.split("[-_]", name)[0]))


def read_tags(tokens: Sequence[str]) -> Tags:
    """What the tokens of the query frames say: language, emotion, event, and the text form."""
    matches = [_TAG.fullmatch(token) for token in tokens]
    names = [match[1] if match and match[1] not in _UNKNOWN else "" for match in matches]
    language, emotion, event = [*names, "", "", ""][:3]
    if language == _NO_SPEECH:
        return Tags("", emotion, event, has_speech=False)
    return Tags(language, emotion, event)


def load(files: ModelFiles, settings: EngineSettings) -> SenseVoice:
    """Load from verified bytes."""
    config = read_config(files)
    tokens = read_tokens(files)
    frontend = read_frontend(files, section(config, "frontend_conf"))
    graph = ort.open_model_graph(files, "model", settings)
    one = ort.TensorSpec("int32", (None,))
    inputs = {
        "speech": ort.TensorSpec("float", (None, None, frontend.config.dim)),
        "speech_lengths": one,
        "language": one,
        "textnorm": one,
    }
    graph.require(
        inputs,
        {"ctc_logits": ort.TensorSpec("float", (None, None, None)), "encoder_out_lens": one},
    )
    check_inputs(graph, tuple(inputs))
    check_vocabulary(graph, tokens, "ctc_logits")
    return SenseVoice(graph, frontend, tokens, files.model_id)
