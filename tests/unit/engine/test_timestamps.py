from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.timestamps import cif_spans, ctc_spans, within


def peaks(*fired, frames=60):
    """`us_cif_peak` that fires in these frames."""
    values = np.full(frames, 0.4, np.float32)
    values[list(fired)] = 1.0
    return values


def test_a_token_lasts_from_its_peak_to_the_next():
    spans = cif_spans(peaks(10, 20, 35, 58), 4)
    assert spans[:2] == ((170, 370), (370, 670))


def test_silence_behind_the_last_peak_is_shared_with_the_last_token():
    assert cif_spans(peaks(10, 20, frames=60), 2) == ((170, 785), (785, 1200))


def test_the_last_token_ends_with_the_audio_when_little_is_left():
    assert cif_spans(peaks(10, 57), 2) == ((170, 1200), (1200, 1200))


def test_a_token_before_the_last_is_cut_at_thirty_frames():
    assert cif_spans(peaks(2, 40, 50, 59), 4)[0] == (10, 610)


def test_a_peak_at_the_start_comes_before_it():
    spans = cif_spans(peaks(0, 10), 2)
    assert spans[0][0] == -30
    assert within(spans, 1150)[0][0] == 0


def test_spans_are_kept_within_the_audio():
    assert within(((-30, 20), (20, 90), (90, 130)), 80) == ((0, 20), (20, 80), (80, 80))


@pytest.mark.parametrize("positions", [0, 1, 3])
def test_another_number_of_peaks_gives_no_times(positions):
    assert cif_spans(peaks(10, 20), positions) == ()


def test_nan_and_no_frames_give_no_times():
    assert cif_spans(np.full(60, np.nan, np.float32), 2) == ()
    assert cif_spans(np.zeros(0, np.float32), 1) == ()


def test_the_threshold_is_that_of_the_graph():
    values = peaks(10, 20)
    values[30:32] = 0.9999, 0.99991
    assert len(cif_spans(values, 3)) == 3


@given(st.sets(st.integers(2, 199), min_size=1))
def test_spans_follow_one_another(fired):
    spans = cif_spans(peaks(*fired, frames=200), len(fired))
    assert len(spans) == len(fired)
    flat = [ms for span in spans for ms in span]
    assert flat == sorted(flat)
    assert flat[-1] == 200 * 20


def test_ctc_frames_are_moved_by_half_a_frame():
    assert ctc_spans([(0, 1), (1, 2), (10, 13)]) == ((0, 30), (30, 90), (570, 750))
