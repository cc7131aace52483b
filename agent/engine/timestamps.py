"""When tokens were spoken: from the peaks of a second CIF (BiCif), or from the frames of CTC."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from agent.types import Float32

Spans = tuple[tuple[int, int], ...]
"""Start and end of each token in ms from the start of the audio."""

FRAME_MS = 60
"""One encoder frame (six filter-bank frames of 10 ms)."""
UPSAMPLED_MS = FRAME_MS // 3
"""One frame of `us_cif_peak`."""
_PEAK = 1.0 - 1e-4
"""Integrated weight from which a frame is a peak."""
_CIF_OFFSET_MS = -30
_CTC_OFFSET_MS = -30
"""Peaks and CTC's frames come late by about half an encoder frame."""
_LONGEST_MS = 600
"""What two peaks further apart enclose beyond this is silence."""
_EDGE_MS = 100
"""Silence behind the last peak that counts as such."""


def cif_spans(peaks: Float32, positions: int) -> Spans:
    """Spans of the decoder's `positions` from `us_cif_peak` [3T], as FunASR's
    `time_stamp_lfr6_onnx` has them; empty when there is not one peak for each position.

    A position lasts from its own peak to the next one. The last position is the end of the
    sentence; the one before it, the last token, goes on half-way into the silence behind, or to
    the end of the audio where that is near.
    """
    fired = np.flatnonzero(peaks > _PEAK)
    if not positions or len(fired) != positions:
        return ()
    edges = [int(frame) * UPSAMPLED_MS + _CIF_OFFSET_MS for frame in fired]
    length = len(peaks) * UPSAMPLED_MS
    end = (length + edges[-1]) // 2 if length - edges[-1] > _EDGE_MS else length
    spans = [(start, min(next_, start + _LONGEST_MS)) for start, next_ in pairwise(edges)]
    spans[-1:] = [(start, end) for start, _ in spans[-1:]]
    return (*spans, (end, length))


def ctc_spans(frames: Sequence[tuple[int, int]]) -> Spans:
    """Spans of tokens from the encoder frames [first, behind) in which CTC's best path holds them.

    FunASR aligns the text it read to the same output by force; since the best path is the best of
    all alignments, the result is this.
    """
    return tuple(
        (max(0, first * FRAME_MS + _CTC_OFFSET_MS), behind * FRAME_MS + _CTC_OFFSET_MS)
        for first, behind in frames
    )


def within(spans: Spans, audio_ms: int) -> Spans:
    """The spans cut to 0..`audio_ms`: frames reach beyond both ends of the audio."""
    return tuple((min(max(0, start), audio_ms), min(max(0, end), audio_ms)) for start, end in spans)
