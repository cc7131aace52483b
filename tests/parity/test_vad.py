"""FSMN-VAD: segments of long recordings, whole and streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.types import VadBoundary
from tests.parity.clips import Clip, cuts
from tests.parity.ledger import Ledger, Verdict, amount, verdict
from tests.parity.ours import FP32, INT8, Exported

PART = "FSMN-VAD"
NAME = "fsmn-vad"
CHUNK = 1600
SHORTEST, LONGEST = 960, 16000
"""Samples of random chunks; funasr_onnx raises at a chunk that brings no frame."""
MAX_END_SILENCE_MS = 800
INT8_SHIFT_MS = 200

Segments = list[list[int]]
Pieces = list[slice]


@pytest.fixture(scope="session")
def published(shared: Path) -> Path:
    """The folder with the published weights."""
    return shared / "models" / NAME


def test_published_weights_equal_funasr_onnx(
    published: Path, recordings: list[Clip], threads: int, ledger: Ledger
) -> None:
    from tests.parity import peer

    model = Exported(published).load("fsmn_vad", threads)
    theirs = peer.Vad(published, quantize=False, threads=threads)
    on = amount(recordings)
    wanted = [theirs.whole(clip.wave) for clip in recordings]
    found = [segments(chunkwise(model, clip, [slice(None)])) for clip in recordings]
    _row(ledger, "published weights, fp32: segments, whole", "funasr_onnx", on, found, wanted)
    for label, kind in (("chunks of 100 ms", even), ("chunks of 60 ms to 1 s", uneven)):
        pieces = [kind(len(clip.samples)) for clip in recordings]
        pairs = list(zip(recordings, pieces, strict=True))
        found = [chunkwise(model, clip, p) for clip, p in pairs]
        wanted = [decided(theirs.streamed(clip.wave, p)) for clip, p in pairs]
        if kind is uneven:
            found, wanted = ([segments(x) for x in side] for side in (found, wanted))
        what = "boundaries, chunk by chunk" if kind is even else "segments"
        _row(ledger, f"published weights, fp32: {what}, {label}", "funasr_onnx", on, found, wanted)


def test_published_int8_equals_funasr_onnx(
    published: Path, recordings: list[Clip], threads: int, ledger: Ledger
) -> None:
    from tests.parity import peer

    model = Exported(published, INT8).load("fsmn_vad", threads)
    theirs = peer.Vad(published, quantize=True, threads=threads)
    on = amount(recordings)
    pieces = [even(len(clip.samples)) for clip in recordings]
    pairs = list(zip(recordings, pieces, strict=True))
    found = [chunkwise(model, clip, p) for clip, p in pairs]
    wanted = [decided(theirs.streamed(clip.wave, p)) for clip, p in pairs]
    _row(ledger, "published weights, int8: boundaries, chunk by chunk, chunks of 100 ms",
         "funasr_onnx", on, found, wanted)  # fmt: skip
    whole = [theirs.whole(clip.wave) for clip in recordings]
    joined = [segments(boundaries) for boundaries in found]
    changed, total = count(joined, whole)
    furthest_ms = shift_ms(joined, whole)
    ledger.add(
        PART, "published weights, int8: segments, whole", "funasr_onnx", on,
        f"{changed} of {total} segments, by {furthest_ms} ms at most",
        verdict(furthest_ms <= INT8_SHIFT_MS, changed),
        "the ranges of dynamic int8 depend on what is run together: funasr_onnx runs a minute at "
        "once, the agent always 100 ms" if changed else "",
    )  # fmt: skip


def test_checkpoint_equals_torch(
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    recordings: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    model = exported(NAME, FP32).load("fsmn_vad", threads)
    theirs = original(NAME)
    fixed = {"max_end_silence_time": MAX_END_SILENCE_MS}
    on = amount(recordings)
    pieces = [even(len(clip.samples)) for clip in recordings]
    pairs = list(zip(recordings, pieces, strict=True))
    found = [chunkwise(model, clip, p) for clip, p in pairs]
    joined = [segments(pieces) for pieces in found]
    whole = [theirs.generate(clip.wave, **fixed)[0]["value"] for clip in recordings]
    _row(ledger, "fp32: segments, whole", "torch", on, joined, whole)
    streamed = [decided(in_torch(theirs, clip, p, **fixed)) for clip, p in pairs]
    _row(ledger, "fp32: boundaries, chunk by chunk, chunks of 100 ms", "torch", on, found, streamed)
    dynamic = [segments(decided(in_torch(theirs, clip, p))) for clip, p in pairs]
    changed, total = count(joined, dynamic)
    mine = sum(map(len, joined))
    ledger.add(
        PART, "fp32: segments, chunks of 100 ms, torch as it is called without parameters", "torch",
        on, f"{total} segments, the agent {mine}", verdict(True, changed),
        "since 1.4 torch then wants 2 s of silence to end a short segment and ever less to end a "
        "longer one; the agent keeps to the model's published parameters, as funasr_onnx does"
        if changed else "",
    )  # fmt: skip


def chunkwise(model: Any, clip: Clip, pieces: Sequence[slice]) -> list[tuple[int, str, int]]:
    """Boundaries of the agent: number of the chunk that decides, kind, ms."""
    stream = model.start_stream()
    found: list[tuple[int, str, int]] = []

    def note(chunk: int, boundaries: Sequence[VadBoundary]) -> None:
        found.extend((chunk, b.kind, b.ms) for b in boundaries)

    for i, piece in enumerate(pieces):
        note(i, stream.accept(clip.samples[piece]))
    note(len(pieces) - 1, stream.finish())
    return found


def decided(chunks: Iterable[Segments]) -> list[tuple[int, str, int]]:
    """FunASR's [start, -1], [-1, end] and [start, end] in the same form."""
    found = []
    for i, pairs in enumerate(chunks):
        for start, end in pairs:
            found += [(i, "start", start)] if start >= 0 else []
            found += [(i, "end", end)] if end >= 0 else []
    return found


def in_torch(theirs: Any, clip: Clip, pieces: Sequence[slice], **more: Any) -> Iterable[Segments]:
    """What each chunk of 100 ms decides."""
    cache: dict[str, Any] = {}
    for i, piece in enumerate(pieces):
        is_last = i == len(pieces) - 1
        (result,) = theirs.generate(
            clip.wave[piece], cache=cache, is_final=is_last, chunk_size=CHUNK // 16, **more
        )
        yield result["value"]


def segments(boundaries: Iterable[tuple[int, str, int]]) -> Segments:
    """[start, end] in ms."""
    times = [ms for _, _, ms in boundaries]
    return [list(pair) for pair in zip(times[::2], times[1::2], strict=True)]


def even(length: int) -> Pieces:
    """Chunks of 100 ms."""
    return [slice(at, at + CHUNK) for at in range(0, length, CHUNK)]


def uneven(length: int) -> Pieces:
    """Random chunks, always the same."""
    return list(cuts(length, np.random.default_rng(length), SHORTEST, LONGEST))


def count(found: Iterable[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """How many items one side has and the other has not, and how many there are."""
    changed = 0
    for a, b in zip(found, wanted, strict=True):
        left, right = {tuple(x) for x in a}, {tuple(x) for x in b}
        changed += max(len(left - right), len(right - left))
    return changed, sum(map(len, wanted))


def shift_ms(found: Sequence[Segments], wanted: Sequence[Segments]) -> int:
    """The furthest that a boundary is moved; huge where the numbers of segments differ."""
    if list(map(len, found)) != list(map(len, wanted)):
        return 10**9
    pairs = [p for a, b in zip(found, wanted, strict=True) for p in zip(a, b, strict=True)]
    return max((abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)), default=0)


def _row(
    ledger: Ledger,
    what: str,
    against: str,
    on: str,
    found: Sequence[Sequence[Any]],
    wanted: Sequence[Sequence[Any]],
) -> None:
    changed, total = count(found, wanted)
    verdict = Verdict.EQUAL if not changed and total else Verdict.DIFFERENT
    ledger.add(PART, what, against, on, f"{changed} of {total}", verdict)
