"""The two-pass session over fake models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.session import EDGE_MS, HISTORY_MS, Session, SessionSettings, effective_mode
from agent.types import (
    AudioGap,
    Int16,
    Recognition,
    RecognitionMode,
    SpeechSegment,
    StreamOptions,
    Transcript,
    VadBoundary,
    VoiceStarted,
    VoiceStopped,
)
from tests.fakes import FakeOffline, fake_models, silence, tone

EDGE = EDGE_MS * 16

TALK = np.concatenate(
    [silence(4), tone(3, 4), silence(6), tone(7, 2), tone(5, 3), silence(4), tone(9, 3)]
)


def run(
    audio: Int16,
    cuts: list[int],
    mode: RecognitionMode = RecognitionMode.TWO_PASS,
    **models: bool,
) -> list[object]:
    session = Session(fake_models(**models), StreamOptions(mode=mode), SessionSettings(), "s")
    out: list[object] = []
    edges = [0, *sorted(cuts), len(audio)]
    for a, b in itertools.pairwise(edges):
        out += session.accept(audio[a:b])
    out += session.finish()
    return [
        (o.id, o.start_ms, o.end_ms, o.samples.tobytes()) if isinstance(o, SpeechSegment) else o
        for o in out
    ]


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(TALK)), max_size=40),
    mode=st.sampled_from(list(RecognitionMode)),
)
def test_events_do_not_depend_on_message_boundaries(cuts: list[int], mode: RecognitionMode) -> None:
    assert run(TALK, cuts, mode) == run(TALK, [], mode)


def segments(audio: Int16) -> list[SpeechSegment]:
    session = Session(fake_models(), StreamOptions(), SessionSettings(), "s")
    out = [*session.accept(audio), *session.finish()]
    return [o for o in out if isinstance(o, SpeechSegment)]


def test_segment_begins_with_the_pre_roll_before_the_decided_start() -> None:
    first = segments(TALK)[0]
    assert (first.start_ms, first.end_ms) == (300, 800)
    assert first.samples.tolist() == TALK[300 * 16 : 800 * 16].tolist()


def test_pre_roll_never_reaches_into_the_previous_segment() -> None:
    a, b = segments(np.concatenate([tone(3, 4), silence(3), tone(4, 3)]))[:2]
    assert b.start_ms >= a.end_ms


def test_pre_roll_at_the_start_of_the_stream_stops_at_zero() -> None:
    assert segments(np.concatenate([tone(3, 4), silence(4)]))[0].start_ms == 0


def test_each_segment_gets_partials_then_voice_stopped_then_the_segment() -> None:
    kinds = [type(o).__name__ for o in run(TALK, [])]
    first = kinds[: kinds.index("tuple") + 1]
    assert first[0] == "VoiceStarted"
    assert first[-2:] == ["VoiceStopped", "tuple"]
    assert set(first[1:-2]) == {"Transcript"}


def test_partials_only_grow_and_are_not_repeated() -> None:
    partials = [o for o in run(TALK, []) if isinstance(o, Transcript) and o.segment_id == 0]
    texts = [p.text for p in partials]
    assert texts == sorted(set(texts), key=len)
    assert texts[-1] == "3333"


def test_offline_mode_gives_segments_and_no_partials() -> None:
    out = run(TALK, [], RecognitionMode.OFFLINE)
    assert not [o for o in out if isinstance(o, Transcript)]
    assert len([o for o in out if isinstance(o, tuple)]) == 3


def test_online_mode_gives_finals_of_the_streaming_recogniser_and_no_segments() -> None:
    out = run(TALK, [], RecognitionMode.ONLINE)
    finals = [o.text for o in out if isinstance(o, Transcript) and o.is_final]
    assert finals == ["3333", "77555", "999"]
    assert not [o for o in out if isinstance(o, tuple)]


def test_speech_still_open_at_the_end_is_decided() -> None:
    assert segments(tone(2, 5))[0].end_ms == 500


def test_a_rest_shorter_than_a_hop_is_not_lost() -> None:
    audio = np.concatenate([tone(2, 5), tone(2, 1)[:700]])
    segment = segments(audio)[0]
    assert segment.samples[EDGE : EDGE + len(audio)].tolist() == audio.tolist()
    assert segment.end_ms == len(audio) // 16


def test_silence_is_put_where_speech_touches_the_edges_of_the_stream() -> None:
    segment = segments(tone(2, 5))[0]
    assert (segment.start_ms, segment.end_ms, segment.lead_ms) == (0, 500, EDGE_MS)
    assert len(segment.samples) == len(tone(2, 5)) + 2 * EDGE
    assert not segment.samples[:EDGE].any()
    assert not segment.samples[-EDGE:].any()


def test_nothing_is_put_around_speech_in_the_middle_of_the_stream() -> None:
    segment = segments(TALK)[0]
    assert segment.lead_ms == 0
    assert len(segment.samples) == (segment.end_ms - segment.start_ms) * 16


def test_timestamps_do_not_count_the_silence_put_before() -> None:
    class Stamped(FakeOffline):
        def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
            return [Recognition("好", ("好",), ((100, 400),)) for _ in batch]

    models = replace(fake_models(), offline=Stamped())
    session = Session(models, StreamOptions(), SessionSettings(), "s")
    segment = SpeechSegment(0, 1000, 1500, tone(1, 7), lead_ms=200)
    assert session.decode(segment).timestamps == ((1000, 1200),)


def test_silence_gives_nothing() -> None:
    assert run(silence(50), []) == []


def test_decode_shifts_timestamps_to_the_stream() -> None:
    session = Session(fake_models(), StreamOptions(), SessionSettings(), "s")
    segment = SpeechSegment(4, 1000, 1200, tone(6, 2))
    final = session.decode(segment)
    assert (final.text, final.is_final, final.segment_id) == ("66", True, 4)
    assert (final.start_ms, final.end_ms) == (1000, 1200)


def test_decode_without_an_offline_recogniser_is_an_error() -> None:
    session = Session(fake_models(offline=False), StreamOptions(), SessionSettings(), "s")
    with pytest.raises(ValueError, match="no offline recogniser"):
        session.decode(SpeechSegment(0, 0, 100, tone(1, 1)))


@pytest.mark.parametrize(
    ("online", "offline", "asked", "got"),
    [
        (True, True, "2pass", "2pass"),
        (False, True, "2pass", "offline"),
        (True, False, "2pass", "online"),
        (False, True, "online", "offline"),
        (True, False, "offline", "online"),
    ],
)
def test_mode_falls_back_to_what_the_models_can_do(
    online: bool, offline: bool, asked: str, got: str
) -> None:
    models = fake_models(online=online, offline=offline)
    assert effective_mode(models, RecognitionMode(asked)).value == got


def test_a_gap_ends_open_speech_and_moves_time_on() -> None:
    session = Session(fake_models(), StreamOptions(), SessionSettings(), "s")
    out = [*session.accept(tone(3, 4)), *session.skip(16 * 5000), *session.accept(tone(4, 4))]
    out += session.finish()
    found = [o for o in out if isinstance(o, SpeechSegment)]
    assert [o for o in out if isinstance(o, AudioGap)] == [AudioGap("s", 400, 5000)]
    assert [(s.start_ms, s.end_ms) for s in found] == [(0, 400), (5400, 5800)]


def test_a_gap_of_nothing_is_nothing() -> None:
    session = Session(fake_models(), StreamOptions(), SessionSettings(), "s")
    session.accept(tone(3, 4))
    assert session.skip(0) == []


def test_position_counts_every_sample() -> None:
    session = Session(fake_models(), StreamOptions(), SessionSettings(), "s")
    session.accept(np.zeros(16 * 250, np.int16))
    assert session.position_ms == 250


class LateVad:
    """Says at 6 s that speech began at 1 s: further back than audio is kept."""

    def start_stream(self) -> LateVad:
        self.hops = 0
        return self

    def accept(self, samples: Int16) -> list[VadBoundary]:
        self.hops += 1
        return [VadBoundary("start", 1000)] if self.hops == 60 else []

    def finish(self) -> list[VadBoundary]:
        return []


def test_a_start_further_back_than_the_history_begins_where_audio_is_kept() -> None:
    models = fake_models()
    late = type(models)(vad=LateVad(), offline=models.offline)
    session = Session(late, StreamOptions(mode=RecognitionMode.OFFLINE), SessionSettings(), "s")
    out = [*session.accept(silence(70)), *session.finish()]
    started = next(o for o in out if isinstance(o, VoiceStarted))
    stopped = next(o for o in out if isinstance(o, VoiceStopped))
    assert 6000 - 2 * HISTORY_MS <= started.start_ms <= 6000 - HISTORY_MS
    assert stopped.end_ms == 7000
