"""Level and gain."""

from __future__ import annotations

import numpy as np
import pytest

from agent.audio.level import FLOOR_DBFS, LevelMeter, amplify


def test_a_sine_at_full_scale_has_minus_three_db_and_peaks_at_zero() -> None:
    meter = LevelMeter()
    meter.accept((32767 * np.sin(np.arange(16000) * 0.1)).astype(np.int16))
    level = meter.read()
    assert level.rms_dbfs == pytest.approx(-3.0, abs=0.1)
    assert level.peak_dbfs == pytest.approx(0.0, abs=0.1)


def test_silence_and_nothing_have_the_floor() -> None:
    meter = LevelMeter()
    assert meter.read().rms_dbfs == FLOOR_DBFS
    meter.accept(np.zeros(100, np.int16))
    assert meter.read().rms_dbfs == FLOOR_DBFS


def test_the_lowest_sample_has_a_level_too() -> None:
    meter = LevelMeter()
    meter.accept(np.full(10, -32768, np.int16), clipped=10)
    level = meter.read()
    assert (level.peak_dbfs, level.clipped) == (0.0, 10)
    assert meter.read().clipped == 0, "a reading begins anew"


def test_gain_is_in_db_and_what_it_cuts_off_is_counted() -> None:
    louder, clipped = amplify(np.array([100, -100, 20000], np.int16), 20)
    assert louder.tolist() == [1000, -1000, 32767]
    assert clipped == 1


def test_no_gain_changes_nothing() -> None:
    samples = np.array([1, 2], np.int16)
    assert amplify(samples, 0)[0] is samples
