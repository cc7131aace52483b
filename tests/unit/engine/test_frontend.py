from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.frontend import Frontend, FrontendConfig, parse_cmvn
from agent.errors import ManifestError
from tests.unit.engine.graphs import mvn

AUDIO = (np.random.default_rng(7).standard_normal(20000) * 3000).astype(np.int16)
STACKS = [(7, 6), (5, 1), (1, 1), (4, 3)]


def frontend(m: int = 7, n: int = 6) -> Frontend:
    return Frontend(FrontendConfig(lfr_m=m, lfr_n=n), parse_cmvn(mvn(80 * m)))


@settings(max_examples=40, deadline=None)
@given(
    stack=st.sampled_from(STACKS),
    length=st.integers(0, len(AUDIO)),
    cuts=st.lists(st.integers(0, len(AUDIO)), max_size=8),
)
def test_streamed_features_equal_whole_ones_bit_for_bit(stack, length, cuts):
    audio, made = AUDIO[:length], frontend(*stack)
    stream = made.start_stream()
    edges = [0, *sorted(c for c in cuts if c <= length), length]
    parts = [stream.accept(audio[a:b]) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()]), made.whole(audio))


@pytest.mark.parametrize(("m", "n"), STACKS)
def test_number_of_frames_is_rounded_up(m, n):
    for length in (400, 560, 1360, 1520, 9999):
        banks = (length - 400) // 160 + 1
        assert frontend(m, n).whole(AUDIO[:length]).shape == (-(-banks // n), 80 * m)


@pytest.mark.parametrize("length", [0, 1, 399])
def test_less_than_one_frame_of_audio_gives_no_feature(length):
    assert frontend().whole(AUDIO[:length]).shape == (0, 560)


def test_first_and_last_frames_fill_up_the_edges():
    plain = Frontend(FrontendConfig(lfr_m=5, lfr_n=1), parse_cmvn(mvn(400, 0.0, 1.0)))
    stacked = plain.whole(AUDIO[:720]).reshape(3, 5, 80)
    a, b, c = stacked[0, 2], stacked[1, 2], stacked[2, 2]
    assert np.array_equal(stacked[0], np.stack([a, a, a, b, c]))
    assert np.array_equal(stacked[2], np.stack([a, b, c, c, c]))


def test_cmvn_shifts_before_it_scales():
    plain = Frontend(FrontendConfig(), parse_cmvn(mvn(560, 0.0, 1.0))).whole(AUDIO)
    assert np.array_equal(
        frontend().whole(AUDIO), ((plain.astype(np.float64) + 0.5) * 2.0).astype(np.float32)
    )


def test_a_long_stream_keeps_few_frames():
    stream = frontend().start_stream()
    for _ in range(50):
        stream.accept(AUDIO[:16000])
    assert len(stream._frames) < 2 * 7


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "<AddShift>"),
        (b"\xff\xfe\x00", "<AddShift>"),
        (mvn(4).replace(b"<Rescale>", b"<Other>"), "<Rescale>"),
        (mvn(4).replace(b"0.5", b"half", 1), "<AddShift>"),
        (mvn(4).replace(b"2.0 2.0 ", b"2.0 ", 1), "4 values"),
    ],
)
def test_malformed_cmvn_is_refused(data, says):
    with pytest.raises(ManifestError, match=r"am\.mvn") as refused:
        parse_cmvn(data)
    assert says in refused.value.message


def test_cmvn_of_another_width_is_refused():
    with pytest.raises(ManifestError, match="400"):
        Frontend(FrontendConfig(), parse_cmvn(mvn(400)))


def test_another_sampling_rate_is_refused():
    with pytest.raises(ManifestError, match="8000"):
        FrontendConfig.from_config({"fs": 8000})
