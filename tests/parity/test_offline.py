"""Offline Paraformers: plain, with times (BiCif, SeACo), with hotwords (contextual, SeACo)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from agent.engine.side_files import read_config, read_frontend, read_tokens, section
from agent.engine.text import SPECIAL_TOKENS
from agent.engine.timestamps import Spans, cif_spans
from agent.types import Float32, Recognition, StreamOptions
from tests.parity.clips import Clip
from tests.parity.ledger import Ledger, amount, verdict
from tests.parity.ours import FP32, INT8, Exported, Outputs, watched

PART = "Paraformer, offline"
TOLERANCE = 1e-3
PLAIN = "paraformer-zh"
TIMES = "paraformer-zh-timestamps"
CONTEXTUAL = "paraformer-zh-contextual"
SEACO = "paraformer-zh-seaco"
ALL = (PLAIN, TIMES, CONTEXTUAL, SEACO)
WITH_TIMES = (TIMES, SEACO)
WITH_HOTWORDS = (CONTEXTUAL, SEACO)
CUT_MS = (239, 240, 241)
"""Where torch cuts the time of a token; it rounds down."""
LONGEST_MS = 600
DROPPED = (0, 2)
"""Ids that stand for no token: blank and end of sentence."""
BIAS = 1
"""Positions at the end that are no text: `predictor_bias` of every published config."""


@dataclass(frozen=True)
class Reading:
    """What the agent read in a clip."""

    found: Recognition
    logits: Float32
    """[L, V], one row for each position that the predictor counted."""


class Ours:
    """An offline Paraformer of the agent."""

    def __init__(self, files: Exported, threads: int, outputs: Outputs) -> None:
        self._model = files.load("paraformer", threads)
        self._outputs = outputs
        self.tokens = read_tokens(files)
        self.frontend = read_frontend(files, section(read_config(files), "frontend_conf"))

    def read(self, clip: Clip, hotwords: Sequence[str] = ()) -> Reading:
        options = StreamOptions(hotwords=tuple((word, 20) for word in hotwords))
        self._outputs.runs.clear()
        (found,) = self._model.decode([clip.samples], options)
        run = self._outputs.runs[-1]
        count = round(float(run["token_num"][0]))
        return Reading(found, run["logits"][0, :count])


@pytest.mark.parametrize("name", ALL)
def test_equals_torch(
    name: str,
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    torch_clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    files = exported(name)
    words = hotwords(files) if name in WITH_HOTWORDS else ()
    more = {"hotword": " ".join(words)} if words else {}
    theirs = original(name)
    with watched() as outputs:
        ours = Ours(files, threads, outputs)
        largest, changed, total, margin = 0.0, 0, 0, float("inf")
        for clip in torch_clips:
            found = ours.read(clip, words).logits
            wanted = theirs.read(clip.wave, ours.frontend, **more).logits
            largest = max(largest, distance(found, wanted))
            from_audio = theirs.read(clip.wave, **more).logits
            changed += differing(found, from_audio)
            total += len(from_audio)
            margin = min(margin, smallest_margin(from_audio))
    on = amount(torch_clips)
    ledger.add(
        PART, f"{name} fp32: log-probabilities on the same features", "torch", on,
        f"{largest:.1e}", largest <= TOLERANCE,
    )  # fmt: skip
    ledger.add(
        PART, f"{name} fp32: tokens from the audio", "torch", on,
        f"{changed} of {total} tokens, smallest margin {margin:.2g}", not changed,
    )  # fmt: skip


@pytest.mark.parametrize("form", [FP32, INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("name", ALL)
def test_equals_funasr_onnx(
    name: str,
    form: str,
    exported: Callable[..., Exported],
    clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    from tests.parity import peer

    files = exported(name, form)
    words = hotwords(files, english=False) if name in WITH_HOTWORDS else ()
    kind = peer.OFFLINE[str(read_config(files)["model"])]
    theirs = peer.Peer(kind, files.folder, quantize=form == INT8, threads=threads)
    largest, changed, total, texts, open_ones, times = 0.0, 0, 0, 0, 0, Times()
    with watched() as outputs:
        ours = Ours(files, threads, outputs)
        for clip in clips:
            found = ours.read(clip, words)
            wanted = theirs.read(clip.wave, *([" ".join(words)] if words else []))
            largest = max(largest, distance(found.logits, wanted.logits[: len(found.logits)]))
            kept = tuple(token for token in wanted.tokens if token not in SPECIAL_TOKENS)
            changed += found.found.tokens != kept
            total += len(kept)
            if unfinished(kept):
                open_ones += 1
            else:
                texts += found.found.text != peer.text_of(list(kept))
            if name in WITH_TIMES:
                times.compare(found, wanted, clip)
    on = amount(clips)
    label = f"{name} {'int8' if form == INT8 else 'fp32'}"
    ledger.add(
        PART, f"{label}: log-probabilities", "funasr_onnx", on, f"{largest:.1e}",
        largest <= TOLERANCE,
    )  # fmt: skip
    ledger.add(
        PART, f"{label}: tokens", "funasr_onnx", on,
        f"{changed} of {len(clips)} clips ({total} tokens)", not changed,
    )  # fmt: skip
    ledger.add(
        PART, f"{label}: text", "funasr_onnx", on,
        f"{texts} of {len(clips) - open_ones} clips", verdict(not texts, open_ones),
        f"where a word's piece is followed by a Han character or by nothing ({open_ones} clips) "
        "FunASR moves it to the next English word or drops it; "
        "the agent writes it where it was read" if open_ones else "",
    )  # fmt: skip
    if name in WITH_TIMES:
        times.write(label, on, ledger)


class Times:
    """Times of tokens against funasr_onnx's."""

    def __init__(self) -> None:
        self._largest = 0
        self._count = 0
        self._blank = 0
        self._outside = 0

    def compare(self, reading: Reading, wanted: Any, clip: Clip) -> None:
        """One clip, unless a position within it is no token: then funasr_onnx raises or gives each
        token behind it the time of the one before."""
        if np.isin(reading.logits[:-BIAS].argmax(axis=-1), DROPPED).any():
            self._blank += 1
            return
        ends_ms = int(clip.seconds * 1000)
        pairs = zip(wanted.spans(), wanted.tokens, strict=True)
        kept = [span for span, token in pairs if token not in SPECIAL_TOKENS]
        self._outside += sum(start < 0 or end > ends_ms for start, end in kept)
        inside = [(min(max(0, a), ends_ms), min(max(0, z), ends_ms)) for a, z in kept]
        self._count += len(inside)
        self._largest = max(self._largest, furthest(reading.found.timestamps, inside))

    def write(self, label: str, on: str, ledger: Ledger) -> None:
        """The row."""
        remarks = []
        if self._outside:
            remarks.append(f"the agent keeps times within the audio ({self._outside} tokens)")
        if self._blank:
            remarks.append(
                f"not compared where a blank is among the tokens ({self._blank} clips): there "
                "funasr_onnx gives the tokens behind it the times of their neighbours, or raises"
            )
        ledger.add(
            PART, f"{label}: times of tokens", "funasr_onnx", on,
            f"{self._largest} ms ({self._count} tokens)",
            verdict(self._largest <= 1 and self._count > 0, self._outside + self._blank),
            "; ".join(remarks),
        )  # fmt: skip


@pytest.mark.parametrize("name", WITH_TIMES)
def test_times_equal_torch(
    name: str,
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    torch_clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    from funasr.utils.timestamp_tools import ts_prediction_lfr6_standard

    theirs = original(name)
    peak, starts, ends, longer, total, estimated = 0.0, 0, 0, 0, 0, 0
    with watched() as outputs:
        ours = Ours(exported(name), threads, outputs)
        for clip in torch_clips:
            ours.read(clip)
            peaks = outputs.runs[-1]["us_cif_peak"][0]
            read = theirs.read(clip.wave)
            peak = max(peak, distance(peaks, read.us_peaks[0].numpy()))
            # With trained weights the last position ends the sentence, and torch drops it.
            tokens = [ours.tokens[i] for i in read.logits.argmax(axis=-1)[:-BIAS]]
            found = cif_spans(peaks, len(tokens) + BIAS)[:-BIAS]
            _, wanted = ts_prediction_lfr6_standard(read.us_alphas, read.us_peaks, tokens)
            if len(found) != len(tokens):
                estimated += 1
                continue
            total += len(found)
            for (a, z), (start, end) in zip(found, wanted, strict=True):
                cut = end - start in CUT_MS and end < z <= a + LONGEST_MS
                longer += cut
                starts = max(starts, abs(a - start))
                ends = max(ends, 0 if cut else abs(z - end))
    on = amount(torch_clips)
    ledger.add(
        PART, f"{name} fp32: peaks of the times", "torch", on, f"{peak:.1e}", peak <= TOLERANCE
    )  # fmt: skip
    remark = (
        f"torch ends a token after 240 ms, the agent and funasr_onnx after 600 ms ({longer} tokens)"
    )
    if estimated:
        remark += (
            f"; where there is not one peak for each position ({estimated} clips) torch spreads "
            "the tokens over the audio, the agent gives no times"
        )
    ledger.add(
        PART, f"{name} fp32: times of tokens", "torch", on,
        f"{max(starts, ends)} ms ({total} tokens)",
        verdict(max(starts, ends) <= 1 and total > 0, longer + estimated), remark,
    )  # fmt: skip


def hotwords(files: Exported, *, english: bool = True) -> tuple[str, ...]:
    """Words that the model has tokens for: of two and four Han characters, and with `english` one
    of 13 and English ones of one and of several pieces, which funasr_onnx can't take."""
    han = [token for token in read_tokens(files) if len(token) == 1 and not token.isascii()]
    short = ("".join(han[40:42]), "".join(han[50:54]))
    if not english:
        return short
    lines = [line.split() for line in files.read("seg_dict").decode().splitlines()]
    words = [line for line in lines if line and line[0].isascii() and line[0].isalpha()]
    one = next(line[0] for line in words if len(line) == 2)
    several = next(line[0] for line in words if len(line) > 2)
    return (*short, "".join(han[60:73]), one, several)


def unfinished(tokens: Sequence[str]) -> bool:
    """Whether a piece `x@@` is followed by no other of its word."""
    pairs = pairwise([*tokens, "\N{IDEOGRAPHIC SPACE}"])
    return any(left.endswith("@@") and not right.isascii() for left, right in pairs)


def distance(found: Float32, wanted: Float32) -> float:
    """The largest difference; infinite where the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max(initial=0.0))


def differing(found: Float32, wanted: Float32) -> int:
    """Positions whose best token differs, and those that only one of them has."""
    n = min(len(found), len(wanted))
    changed = int((found[:n].argmax(axis=-1) != wanted[:n].argmax(axis=-1)).sum())
    return changed + abs(len(found) - len(wanted))


def smallest_margin(logits: Float32) -> float:
    """The least distance between the best two tokens of a position."""
    best = np.partition(logits, -2, axis=-1)
    return float((best[:, -1] - best[:, -2]).min(initial=np.inf))


def furthest(found: Spans, wanted: Sequence[tuple[int, int]]) -> int:
    """The largest difference of starts and ends in ms; huge where the counts differ."""
    if len(found) != len(wanted):
        return 10**9
    pairs = zip(found, wanted, strict=True)
    return max((max(abs(a - c), abs(b - d)) for (a, b), (c, d) in pairs), default=0)
