"""How far each variant is from fp32 on real speech: token error rate and distance of the logits."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from agent.engine import ort
from agent.engine.base import EngineSettings
from agent.engine.families import paraformer_online
from agent.engine.frontend import Frontend, FrontendConfig, parse_cmvn
from agent.types import Int16, StreamOptions

from .variants import SUFFIXES

Array = NDArray[Any]
Feeds = dict[str, Array]

_HOTWORDS = ([10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34])
"""Ids of tokens that every vocabulary has; the last row of a list of hotwords is <s> alone."""
_HOTWORD_LENGTH = 10
_START = 1
_ENGLISH_WITHOUT_ITN = (4, 15)
_SPECIAL = (0, 1, 2)


@dataclass
class Outcome:
    """What one variant made of every clip."""

    tokens: list[list[int]] = field(default_factory=list)
    logits: list[Array] = field(default_factory=list)
    """[tokens or frames, classes] of each clip."""


@dataclass(frozen=True)
class ExportFolder:
    """The graphs of one variant beside the model's side files (`agent.engine.base.ModelFiles`)."""

    folder: Path
    graphs: Mapping[str, str]

    @property
    def model_id(self) -> str:
        """For messages."""
        return self.folder.name

    def read(self, name: str) -> bytes:
        """Bytes of a side file."""
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return (self.folder / name).exists()

    def graph(self, role: str) -> bytes:
        """Bytes of a graph."""
        return self.read(self.graphs[role])

    def open(self, role: str, threads: int) -> ort.Graph:
        """A graph ready to run."""
        return ort.open_graph(self.graph(role), name=self.graphs[role], threads=threads)

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return dict(yaml.load(self.read("config.yaml"), Loader=loader))


def variant_folder(folder: Path, roles: Sequence[str], variant: str) -> ExportFolder:
    """The files of a variant; the hotword encoder is fp32 in each."""
    suffix = SUFFIXES[variant]
    graphs = {role: f"{role}{'' if role == 'model_eb' else suffix}.onnx" for role in roles}
    return ExportFolder(folder, graphs)


def run_variant(
    files: ExportFolder, clips: Sequence[Int16], texts: Sequence[str], threads: int
) -> Outcome:
    """Run it on the clips, or a punctuation model on the texts."""
    config = files.config
    model = str(config["model"])
    if model == "ParaformerStreaming":
        return _run_streaming(files, clips, threads)
    outcome = Outcome()
    extra = {"bias_embed": _bias(files, threads)} if "model_eb" in files.graphs else {}
    graph = files.open("model", threads)
    for feeds in _feeds(model, config, files, clips, texts):
        result = graph.run(feeds | extra)
        tokens, logits = _decoded(model, result)
        outcome.tokens.append(tokens)
        outcome.logits.append(logits)
    del graph
    gc.collect()
    return outcome


def distance(found: Outcome, wanted: Outcome) -> dict[str, float]:
    """Token error rate, and the distance of logits that stand for the same place."""
    edits = sum(_edits(a, b) for a, b in zip(found.tokens, wanted.tokens, strict=True))
    total = sum(map(len, wanted.tokens))
    greatest, summed, count, changed, rows = 0.0, 0.0, 0, 0, 0
    for a, b in zip(found.logits, wanted.logits, strict=True):
        n = min(len(a), len(b))
        gap = np.abs(a[:n] - b[:n])
        greatest = max(greatest, float(gap.max(initial=0.0)))
        summed, count = summed + float(gap.sum(dtype=np.float64)), count + gap.size
        changed += int((a[:n].argmax(-1) != b[:n].argmax(-1)).sum())
        rows += n
    return {
        "token_error_rate": round(edits / max(1, total), 4),
        "tokens": total,
        "argmax_changed": round(changed / max(1, rows), 4),
        "logit_distance_max": round(greatest, 6),
        "logit_distance_mean": round(summed / max(1, count), 6),
    }


def variety(outcome: Outcome, seconds: float) -> dict[str, float]:
    """Tokens a second, and which share of the tokens is distinct within its clip."""
    counted = [[t for t in tokens if t not in _SPECIAL] for tokens in outcome.tokens]
    total = sum(map(len, counted))
    return {
        "tokens_per_second": round(total / seconds, 2) if seconds else 0.0,
        "distinct_share": round(sum(len({*t}) for t in counted) / max(1, total), 3),
        "distinct_tokens": len({t for tokens in counted for t in tokens}),
    }


def _frontend(config: Mapping[str, Any], files: ExportFolder) -> Frontend:
    conf = FrontendConfig.from_config(config["frontend_conf"])
    return Frontend(conf, parse_cmvn(files.read("am.mvn")))


def _feeds(
    model: str,
    config: Mapping[str, Any],
    files: ExportFolder,
    clips: Sequence[Int16],
    texts: Sequence[str],
) -> Iterator[Feeds]:
    if model.startswith("CTTransformer"):
        ids = {token: i for i, token in enumerate(json.loads(files.read("tokens.json")))}
        for text in texts:
            known = np.array([[ids.get(c, len(ids) - 1) for c in text]], np.int32)
            feeds: Feeds = {"inputs": known, "text_lengths": ort.int32(known.shape[1])}
            if model == "CTTransformerStreaming":
                mask = np.ones((1, 1, known.shape[1], known.shape[1]), np.float32)
                feeds |= {"vad_masks": mask, "sub_masks": mask}
            yield feeds
        return
    frontend = _frontend(config, files)
    for clip in clips:
        features = frontend.whole(clip)[None]
        feeds = {"speech": features}
        if model == "FsmnVADStreaming":
            conf = config["encoder_conf"]
            cache = np.zeros((1, conf["proj_dim"], conf["lorder"] + conf["rorder"] - 1, 1))
            feeds |= {f"in_cache{i}": cache.astype(np.float32) for i in range(conf["fsmn_layers"])}
        else:
            feeds["speech_lengths"] = ort.int32(features.shape[1])
        if model == "SenseVoiceSmall":
            language, textnorm = _ENGLISH_WITHOUT_ITN
            feeds |= {"language": ort.int32(language), "textnorm": ort.int32(textnorm)}
        yield feeds


def _decoded(model: str, result: Mapping[str, Array]) -> tuple[list[int], Array]:
    """Tokens, and the logits that they were taken from."""
    if model == "SenseVoiceSmall":
        logits = result["ctc_logits"][0, : int(result["encoder_out_lens"][0])]
        best = logits.argmax(-1)
        kept = best[np.concatenate([[True], best[1:] != best[:-1]])]
        return [int(i) for i in kept if i != 0], logits
    logits = result["logits"][0]
    if "token_num" in result:
        logits = logits[: int(result["token_num"][0])]
    best = logits.argmax(-1)
    if model == "FsmnVADStreaming":
        best = (best == 0).astype(int)
    return best.tolist(), logits


def _bias(files: ExportFolder, threads: int) -> Array:
    """Embeddings of a few hotwords, [1, n, dim]."""
    words = [*_HOTWORDS, [_START]]
    padded = np.zeros((len(words), _HOTWORD_LENGTH), np.int32)
    for row, word in zip(padded, words, strict=True):
        row[: len(word)] = word
    hidden = files.open("model_eb", threads).run({"hotword": padded})["hw_embed"]
    return np.stack([hidden[len(word) - 1, i] for i, word in enumerate(words)])[None]


def _run_streaming(files: ExportFolder, clips: Sequence[Int16], threads: int) -> Outcome:
    """Through the agent's own streaming recogniser, the decoder's outputs noted on the way."""
    outcome = Outcome()
    settings = EngineSettings(threads=threads)
    ids = {token: i for i, token in enumerate(json.loads(files.read("tokens.json")))}
    with _noted() as outputs:
        model = paraformer_online.load(files, settings)
        for clip in clips:
            outputs.clear()
            stream = model.start_stream(StreamOptions())
            stream.accept(clip)
            tokens = stream.finish().tokens
            outcome.tokens.append([ids[token] for token in tokens])
            rows = [o["logits"][0] for o in outputs if "logits" in o]
            outcome.logits.append(np.concatenate(rows) if rows else np.zeros((0, len(ids))))
    return outcome


@contextmanager
def _noted() -> Iterator[list[dict[str, Array]]]:
    """What every graph puts out while the block runs."""
    seen: list[dict[str, Array]] = []
    original = ort.Graph.run

    def run(self: ort.Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = original(self, feeds)
        seen.append(outputs)
        return outputs

    ort.Graph.run = run  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        ort.Graph.run = original  # type: ignore[method-assign]


def _edits(a: Sequence[int], b: Sequence[int]) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
            diagonal, row[j] = row[j], cost
    return row[-1]
