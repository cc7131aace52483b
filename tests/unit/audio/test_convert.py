"""Resampling: the same result for any chunking, and honest bounds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.convert import Resampler, check_rate, downmix
from agent.errors import ProtocolError
from agent.types import MAX_RATE, MIN_RATE, Int16


def noise(count: int, seed: int = 1) -> Int16:
    return np.random.default_rng(seed).integers(-32768, 32768, count).astype(np.int16)


def run(rate: float, samples: Any, cuts: list[int]) -> Int16:
    resampler = Resampler(rate)
    edges = [0, *sorted(cuts), len(samples)]
    parts = [resampler.accept(samples[a:b]) for a, b in itertools.pairwise(edges)]
    return np.concatenate([*parts, resampler.finish()])


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([4000, 8000, 11025, 16000, 22050, 44100, 48000, 192000]),
    count=st.integers(0, 6000),
    fractions=st.lists(st.floats(0, 1), max_size=20),
)
def test_any_chunking_gives_the_same_samples(rate: int, count: int, fractions: list[float]) -> None:
    samples = noise(count)
    cuts = [int(f * count) for f in fractions]
    assert np.array_equal(run(rate, samples, cuts), run(rate, samples, []))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_the_length_in_seconds_is_kept(rate: int) -> None:
    assert abs(len(run(rate, noise(rate * 2), [])) - 32000) <= 1


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_tone_keeps_its_place_and_level(rate: int) -> None:
    at = np.arange(rate) / rate
    tone = (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
    want = 8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    got = run(rate, tone, [])
    assert np.abs(got[1000:-1000] - want[1000:-1000]).max() < 20


def test_16_khz_passes_through_unchanged() -> None:
    samples = noise(5000)
    assert np.array_equal(run(16000, samples, [17, 1000]), samples)


def test_float_samples_at_16_khz_are_scaled_exactly() -> None:
    samples = noise(5000)
    assert np.array_equal(run(16000, (samples / 32768).astype(np.float32), [9]), samples)


def test_full_scale_is_clipped_and_never_wraps() -> None:
    square = np.where(np.arange(8000) // 20 % 2, 32767, -32768).astype(np.int16)
    resampled = run(8000, square, []).astype(int)
    inner = resampled[1000:-1000].reshape(-1, 2, 40)[:, :, 15:25]
    assert np.all(np.abs(inner) > 25000)
    assert np.all(np.sign(inner[:, 0]) == -np.sign(inner[:, 1]))


def test_nan_and_infinity_do_not_spread() -> None:
    samples = np.zeros(8000, np.float32)
    samples[100] = np.nan
    samples[200] = np.inf
    resampled = run(8000, samples, [])
    assert resampled.max() > 10000
    assert not resampled[4000:].any()


@pytest.mark.parametrize("rate", [MIN_RATE, MAX_RATE, 44100.0])
def test_rates_within_the_bounds_are_taken(rate: float) -> None:
    assert check_rate(rate) == rate


@pytest.mark.parametrize(
    "rate",
    [
        MIN_RATE - 1,
        MAX_RATE + 1,
        0,
        -16000,
        10**30,
        16000.5,
        float("nan"),
        float("inf"),
        True,
        "16000",
        None,
    ],
)
def test_absurd_rates_are_refused(rate: Any) -> None:
    with pytest.raises(ProtocolError, match="sample rate") as caught:
        Resampler(rate)
    assert caught.value.close_code == 1007


def test_downmix_is_the_mean_of_the_channels() -> None:
    frames = np.array([[0.5, -0.5], [1.0, 0.0]], np.float32)
    assert downmix(frames).tolist() == [0.0, 0.5]
    assert downmix(frames[:, :1]).tolist() == [0.5, 1.0]
