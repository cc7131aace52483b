"""Streaming Paraformer, hop by hop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from agent.engine.side_files import read_config, read_frontend, section
from agent.types import Float32, StreamOptions
from tests.parity.clips import Clip, some
from tests.parity.ledger import Ledger, Verdict, amount, verdict
from tests.parity.ours import FP32, INT8, Exported, watched

PART = "Paraformer, streaming"
NAME = "paraformer-zh-streaming"
TOLERANCE = 1e-3
SIZES = [(5, 10, 5), (8, 8, 4), (0, 10, 5)]
UNIT = 960
"""Samples of one unit of `chunk_size`."""
DROPPED = (0, 1, 2)
"""Blank, and both ends of a sentence."""
_TORCH_S = 60
_PEER_S = 60

Hops = list[Float32]
"""Log-probabilities [tokens, V] of each hop."""


@dataclass
class Compared:
    """Hops of many clips against a reference."""

    largest: float = 0.0
    changed: int = 0
    """Hops with other tokens."""
    hops: int = 0
    tokens: int = 0

    def add(self, found: Float32, wanted: Float32) -> bool:
        """Compare one hop; whether its tokens are the same."""
        same = best(found) == best(wanted)
        self.hops += 1
        self.tokens += len(wanted)
        self.changed += not same
        if found.shape == wanted.shape:
            self.largest = max(self.largest, float(np.abs(found - wanted).max(initial=0.0)))
        return same

    @property
    def text(self) -> str:
        return (
            f"{self.largest:.1e}; tokens of {self.changed} of {self.hops} hops "
            f"({self.tokens} tokens)"
        )

    @property
    def equal(self) -> bool:
        return not self.changed and self.largest <= TOLERANCE and self.tokens > 0


@dataclass
class AgainstTorch:
    """Hops before the last one, and last ones by how much audio was left for them."""

    middle: Compared = field(default_factory=Compared)
    fitting: Compared = field(default_factory=Compared)
    long: Compared = field(default_factory=Compared)

    def of_the_last(self, clip: Clip, files: Exported, size: tuple[int, int, int]) -> Compared:
        """Where the last hop of a clip belongs."""
        *_, (piece, _) = _pieces(clip, size)
        if piece.stop - piece.start < UNIT:
            return self.fitting
        frontend = read_frontend(files, section(read_config(files), "frontend_conf"))
        stream = frontend.start_stream()
        stream.accept(clip.samples[: piece.start])
        frames = len(stream.accept(clip.samples[piece])) + len(stream.finish())
        return self.fitting if frames + size[2] <= size[1] else self.long


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_torch(
    size: tuple[int, int, int],
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    theirs = original(NAME)
    files = exported(NAME)
    model = files.load("paraformer_online", threads)
    used = some(clips, _TORCH_S)
    result = AgainstTorch()
    for clip in used:
        found, wanted = ours(model, clip, size), in_torch(theirs, clip, size)
        for a, b in zip(found[:-1], wanted[:-1], strict=True):
            result.middle.add(a, b)
        result.of_the_last(clip, files, size).add(found[-1], wanted[-1])
    on = f"{size}, {amount(used)}"
    ledger.add(PART, "fp32: hops before the last", "torch", on, result.middle.text,
               result.middle.equal)  # fmt: skip
    if result.fitting.hops:
        ledger.add(PART, "fp32: a last hop that fits beside the look-ahead", "torch", on,
                   result.fitting.text, result.fitting.equal)  # fmt: skip
    if result.long.hops:
        ledger.add(
            PART, "fp32: a last hop that does not fit", "torch", on, result.long.text,
            Verdict.EXPLAINED if result.long.changed else Verdict.EQUAL,
            "torch reads all that is left in one window; the agent, as funasr_onnx does, in "
            "a whole hop and a rest",
        )  # fmt: skip


@pytest.mark.parametrize("form", [FP32, INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_funasr_onnx(
    size: tuple[int, int, int],
    form: str,
    exported: Callable[..., Exported],
    clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    from tests.parity import peer

    files = exported(NAME, form)
    model = files.load("paraformer_online", threads)
    theirs = peer.Streaming(files.folder, size, quantize=form == INT8, threads=threads)
    used = some(clips, _PEER_S)
    middle, last = Compared(), Compared()
    for clip in used:
        found = ours(model, clip, size)
        wanted = [softened(rows) for rows in theirs.hops(clip.wave, _pieces(clip, size))]
        for a, b in zip(found[:-1], wanted[:-1], strict=True):
            middle.add(a, b)
        last.add(found[-1], wanted[-1])
    on = f"{size}, {amount(used)}"
    label = "int8" if form == INT8 else "fp32"
    ledger.add(PART, f"{label}: hops before the last", "funasr_onnx", on, middle.text,
               middle.equal)  # fmt: skip
    repeats = size[0] == 0
    ledger.add(
        PART, f"{label}: the last hop", "funasr_onnx", on, last.text,
        verdict(last.equal or repeats, last.changed),
        "without look-back funasr_onnx keeps the whole last window instead of none of it, and "
        "reads it twice" if repeats else "",
    )  # fmt: skip


def test_cuts_of_the_audio_change_nothing(
    exported: Callable[..., Exported], clips: list[Clip], threads: int, ledger: Ledger
) -> None:
    model = exported(NAME, INT8).load("paraformer_online", threads)
    used = some(clips, _PEER_S)
    rng = np.random.default_rng(0)
    changed = 0
    for clip in used:
        whole, cut = (model.start_stream(StreamOptions()) for _ in range(2))
        whole.accept(clip.samples)
        at = 0
        while at < len(clip.samples):
            size = int(rng.integers(1, 20000))
            cut.accept(clip.samples[at : at + size])
            at += size
        changed += whole.finish() != cut.finish()
    ledger.add(PART, "int8: audio cut at random", "the agent's own, whole", amount(used),
               f"{changed} of {len(used)} clips", not changed)  # fmt: skip


def ours(model: Any, clip: Clip, size: tuple[int, int, int]) -> Hops:
    """What the agent reads, hop by hop."""
    hops = []
    stream = model.start_stream(StreamOptions(chunk_size=size))
    with watched() as outputs:
        for piece, is_last in _pieces(clip, size):
            stream.accept(clip.samples[piece])
            if is_last:
                stream.finish()
            rows = [softened(logits[0]) for logits in outputs.take("logits")]
            hops.append(_joined(rows))
    return hops


def in_torch(theirs: Any, clip: Clip, size: tuple[int, int, int]) -> Hops:
    """What FunASR reads in torch, without the look-back that no exported graph has."""
    from tests.parity.original import told

    hops = []
    seen: list[Float32] = []
    cache: dict[str, Any] = {}

    def decoded(_: tuple[Any, ...], output: Any) -> None:
        seen.append(output[0][0].detach().numpy())

    with told(theirs.model, {"cal_decoder_with_predictor_chunk": decoded}):
        for piece, is_last in _pieces(clip, size):
            theirs.generate(
                clip.wave[piece],
                cache=cache,
                is_final=is_last,
                chunk_size=list(size),
                encoder_chunk_look_back=0,
                decoder_chunk_look_back=0,
            )
            hops.append(_joined(seen))
            seen.clear()
    return hops


def best(rows: Float32) -> list[int]:
    """The tokens of a hop."""
    return [int(i) for i in rows.argmax(axis=-1) if i not in DROPPED] if len(rows) else []


def softened(logits: Float32) -> Float32:
    """Log-probabilities of rows [L, V], also of ones that are that already."""
    if not len(logits):
        return logits
    highest = logits.max(axis=-1, keepdims=True)
    total = np.exp((logits - highest).astype(np.float64)).sum(axis=-1, keepdims=True)
    soft: Float32 = (logits - highest - np.log(total)).astype(np.float32)
    return soft


def _joined(rows: list[Float32]) -> Float32:
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def _pieces(clip: Clip, size: tuple[int, int, int]) -> Iterator[tuple[slice, bool]]:
    """Whole hops, then what is left, which may be nothing; whether it is the last one."""
    hop = size[1] * UNIT
    whole = len(clip.samples) // hop * hop
    for at in range(0, whole, hop):
        yield slice(at, at + hop), False
    yield slice(whole, len(clip.samples)), True
