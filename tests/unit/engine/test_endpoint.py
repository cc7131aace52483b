from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.endpoint import EndpointDetector, SpeechDecision, VadParameters
from agent.errors import ManifestError


def bounds(speech, parameters=None):
    detector = EndpointDetector(parameters or VadParameters())
    return [(b.kind, b.ms) for b in detector.accept(speech) + detector.finish([])]


def test_speech_starts_look_back_before_its_window_filled():
    # 15 speech frames fill the window at frame 64; window and look-back are 40 frames.
    assert bounds([False] * 50 + [True] * 100 + [False] * 200)[0] == ("start", 240)


def test_silence_ends_speech_after_the_look_ahead():
    # The window runs down 5 frames into silence; the end lies 11 frames behind that.
    assert bounds([False] * 50 + [True] * 100 + [False] * 200)[1] == ("end", 1660)


def test_an_open_segment_ends_with_the_stream():
    assert bounds([True] * 100) == [("start", 0), ("end", 1000)]


def test_a_short_click_is_no_speech():
    assert bounds([False] * 50 + [True] * 14 + [False] * 100) == []


def test_a_segment_is_cut_at_its_longest():
    found = bounds([True] * 300, VadParameters(max_single_segment_time=1000))
    ends = [ms for kind, ms in found if kind == "end"]
    assert ends[0] == 1010
    assert len(ends) == 3


def test_single_utterance_mode_stops_after_the_first_segment():
    one = [True] * 50 + [False] * 100
    assert len(bounds(one * 3, VadParameters(detect_mode=0))) == 2


def test_single_utterance_mode_gives_up_after_long_silence():
    speech = [False] * 301 + [True] * 100
    assert bounds(speech, VadParameters(detect_mode=0)) == []
    assert bounds(speech) != []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 120)), max_size=12), st.integers(1, 400))
def test_boundaries_alternate_in_order_and_ignore_the_cuts(runs, cut):
    speech = [value for value, count in runs for _ in range(count)]
    detector = EndpointDetector(VadParameters())
    cut_found = detector.accept(speech[:cut]) + detector.finish(speech[cut:])
    found = [(b.kind, b.ms) for b in cut_found]
    assert found == bounds(speech)
    assert [kind for kind, _ in found] == ["start", "end"] * (len(found) // 2)
    assert [ms for _, ms in found] == sorted(ms for _, ms in found)
    assert all(0 <= ms <= 10 * len(speech) for _, ms in found)


def test_quiet_frames_are_no_speech():
    decision = SpeechDecision(VadParameters(decibel_thres=-40.0))
    sure = np.float32([[0.01, 0.99]] * 2)
    assert decision.decide(sure, np.float32([-50.0, -30.0])) == [False, True]


def test_frames_close_to_the_noise_are_no_speech():
    decision = SpeechDecision(VadParameters(snr_thres=10.0))
    probabilities = np.float32([[0.99, 0.01], [0.01, 0.99], [0.01, 0.99]])
    assert decision.decide(probabilities, np.float32([-30, -25, -10])) == [False, False, True]


def test_overrides_win_over_the_published_values():
    made = VadParameters.from_config({"max_end_silence_time": 800}, {"max_end_silence_time": 500})
    assert made.max_end_silence_time == 500


def test_a_value_of_the_wrong_type_is_named():
    with pytest.raises(ManifestError, match="window_size_ms"):
        VadParameters.from_config({"window_size_ms": "wide"})
