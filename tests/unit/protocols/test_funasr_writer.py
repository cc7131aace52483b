"""The replies that satisfy every FunASR client at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.joining import join_texts
from agent.protocols.funasr_ws import FunasrWriter
from agent.types import (
    RecognitionMode,
    StreamError,
    StreamEvent,
    StreamFinished,
    Transcript,
    VoiceStarted,
    VoiceStopped,
)

DONE = StreamFinished("s", 5000)


def partial(segment: int, text: str) -> Transcript:
    return Transcript("s", segment, text, False, 0, 100)


def final(segment: int, text: str, stamps: tuple[tuple[int, int], ...] = ()) -> Transcript:
    return Transcript("s", segment, text, True, 0, 100, tuple(text), stamps)


def replies(
    mode: RecognitionMode, *events: StreamEvent, acknowledge: bool = False
) -> list[dict[str, Any]]:
    writer = FunasrWriter(mode, "demo", acknowledge)
    return [json.loads(text) for event in events for text in writer.send(event)]


def brief(messages: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    return [(m["mode"], m["text"], m["is_final"]) for m in messages]


def test_offline_is_one_final_message_with_all_text() -> None:
    got = replies(RecognitionMode.OFFLINE, final(1, "turn left"), final(0, "打开灯"), DONE)
    assert brief(got) == [("offline", "打开灯 turn left", True)]


def test_offline_without_speech_is_one_empty_final_message() -> None:
    assert brief(replies(RecognitionMode.OFFLINE, DONE)) == [("offline", "", True)]


def test_2pass_partials_are_increments_and_sentences_are_whole() -> None:
    got = replies(
        RecognitionMode.TWO_PASS,
        VoiceStarted("s", 0, 0),
        partial(0, "turn"),
        partial(0, "turn on the"),
        VoiceStopped("s", 0, 900),
        final(0, "turn on the light"),
        partial(1, "stop"),
        final(1, "stop"),
        DONE,
    )
    assert brief(got) == [
        ("2pass-online", "turn", False),
        ("2pass-online", " on the", False),
        ("2pass-offline", "turn on the light", False),
        ("2pass-online", " stop", False),
        ("2pass-offline", " stop", False),
        ("2pass-offline", "", True),
    ]


@given(
    texts=st.lists(
        st.sampled_from(["turn left", "打开灯", "stop.", "好的，", "A", "7"]), max_size=8
    )
)
def test_sentences_and_increments_add_up_to_the_joined_transcript(texts: list[str]) -> None:
    events: list[StreamEvent] = []
    for i, text in enumerate(texts):
        events += [partial(i, text[:1]), partial(i, text), final(i, text)]
    for mode, name in (("2pass", "2pass-offline"), ("2pass", "2pass-online"), ("online", "online")):
        got = replies(RecognitionMode(mode), *events, DONE)
        assert "".join(m["text"] for m in got if m["mode"] == name) == join_texts(texts)


def test_a_final_clears_the_next_segments_partials_too_so_they_are_told_again() -> None:
    got = replies(
        RecognitionMode.TWO_PASS,
        partial(0, "你"),
        partial(1, "再"),
        final(0, "你好"),
        partial(1, "再见"),
        partial(1, "再见了"),
    )
    assert [m["text"] for m in got] == ["你", "再", "你好", "再见", "了"]


def test_online_mode_goes_on_after_a_final_that_rewrote_its_partials() -> None:
    got = replies(
        RecognitionMode.ONLINE,
        partial(0, "a"),
        partial(0, "AB"),
        final(0, "AB."),
        partial(1, "next"),
        final(1, "next"),
        DONE,
    )
    assert [m["text"] for m in got] == ["a", "B.", " next", ""]


def test_is_final_is_set_exactly_once_and_last() -> None:
    for mode in RecognitionMode:
        got = replies(mode, partial(0, "a"), final(0, "a"), partial(1, "b"), final(1, "b"), DONE)
        assert [m["is_final"] for m in got] == [False] * (len(got) - 1) + [True]


def test_online_increments_add_up_to_the_transcript() -> None:
    got = replies(
        RecognitionMode.ONLINE,
        partial(0, "turn"),
        partial(0, "turn left"),
        final(0, "turn left"),
        partial(1, "stop"),
        final(1, "stop now"),
        DONE,
    )
    assert {m["mode"] for m in got} == {"online"}
    assert "".join(m["text"] for m in got) == "turn left stop now"


def test_an_empty_final_clears_what_partials_showed() -> None:
    got = replies(RecognitionMode.TWO_PASS, partial(0, "嗯"), final(0, ""), DONE)
    assert brief(got)[1] == ("2pass-offline", "", False)


def test_an_empty_final_that_nothing_preceded_is_dropped() -> None:
    got = replies(RecognitionMode.TWO_PASS, final(0, ""), DONE)
    assert brief(got) == [("2pass-offline", "", True)]


def test_a_partial_that_rewrote_itself_waits_for_the_final() -> None:
    got = replies(RecognitionMode.TWO_PASS, partial(0, "a"), partial(0, "B C"), DONE)
    assert [m["text"] for m in got] == ["a", ""]


def test_timestamps_are_a_json_text_and_absent_when_unknown() -> None:
    got = replies(RecognitionMode.OFFLINE, final(0, "你好", ((430, 670), (670, 810))), DONE)[0]
    assert got["timestamp"] == "[[430,670],[670,810]]"
    assert got["stamp_sents"] == [
        {
            "text_seg": "你 好",
            "punc": "",
            "start": 430,
            "end": 810,
            "ts_list": [[430, 670], [670, 810]],
        }
    ]
    assert "timestamp" not in replies(RecognitionMode.OFFLINE, final(0, "你好"), DONE)[0]


def test_stamp_sents_are_cut_at_punctuation() -> None:
    stamps = ((430, 670), (670, 810), (900, 950), (950, 1200))
    event = Transcript(
        "s", 0, "正是，turn left。", True, 0, 1300, ("正", "是", "turn", "left"), stamps
    )
    assert replies(RecognitionMode.TWO_PASS, event)[0]["stamp_sents"] == [
        {
            "text_seg": "正 是",
            "punc": "，",
            "start": 430,
            "end": 810,
            "ts_list": [[430, 670], [670, 810]],
        },
        {
            "text_seg": "turn left",
            "punc": "。",
            "start": 900,
            "end": 1200,
            "ts_list": [[900, 950], [950, 1200]],
        },
    ]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("123", ("一", "百", "二")),
        ("播放x", ("播", "x", "放")),
        ("播放", ("播",)),
        ("播放", ("", "播", "放")),
    ],
)
def test_text_that_the_tokens_do_not_spell_is_one_piece(text: str, tokens: tuple[str, ...]) -> None:
    stamps = ((0, 1), (1, 2), (2, 3))
    event = Transcript("s", 0, text, True, 0, 9, tokens, stamps)
    (piece,) = replies(RecognitionMode.TWO_PASS, event)[0]["stamp_sents"]
    assert (piece["punc"], piece["start"], piece["end"]) == ("", 0, 3)


def test_pieces_of_words_are_found_in_the_text() -> None:
    event = Transcript(
        "s", 0, "Playing, USA", True, 0, 9, ("play@@", "ing", "u", "s", "a"), ((0, 1),) * 5
    )
    pieces = replies(RecognitionMode.TWO_PASS, event)[0]["stamp_sents"]
    assert [(p["text_seg"], p["punc"]) for p in pieces] == [("Playing", ","), ("USA", "")]


def test_rewritten_numbers_have_a_time_for_each_digit() -> None:
    stamps = tuple((i * 100, (i + 1) * 100) for i in range(6))
    tokens = ("花", "了", "三", "百", "块", "好")
    event = Transcript(
        "s", 0, "花了300块，好。", True, 0, 600, tokens, stamps, spoken="花了三百块，好。"
    )
    got = replies(RecognitionMode.TWO_PASS, event)[0]
    assert got["text"] == "花了300块，好。"
    assert json.loads(got["timestamp"]) == [
        [0, 100], [100, 200], [200, 266], [266, 333], [333, 400], [400, 500], [500, 600]
    ]  # fmt: skip
    assert [(p["text_seg"], p["punc"]) for p in got["stamp_sents"]] == [
        ("花 了 3 0 0 块", "，"),
        ("好", "。"),
    ]


def test_a_punctuated_final_adds_only_its_closing_mark_to_the_increments() -> None:
    punctuated = Transcript("s", 0, "一百，好。", True, 0, 900, spoken="一百，好。")
    got = replies(
        RecognitionMode.ONLINE, partial(0, "一百"), partial(0, "一百好"), punctuated, DONE
    )
    assert "".join(m["text"] for m in got) == "一百好。"
    rewritten = Transcript("s", 0, "100，好吗？", True, 0, 900, spoken="一百，好吗？")
    got = replies(RecognitionMode.ONLINE, partial(0, "一百好"), rewritten, DONE)
    assert "".join(m["text"] for m in got) == "一百好吗？"


def test_timestamps_are_absent_when_one_sentence_lacks_them() -> None:
    got = replies(RecognitionMode.OFFLINE, final(0, "好", ((0, 9),)), final(1, "是"), DONE)[0]
    assert "timestamp" not in got
    assert "stamp_sents" not in got


def test_every_message_carries_mode_text_name_and_finality() -> None:
    for mode in RecognitionMode:
        for message in replies(mode, partial(0, "a"), final(0, "a"), DONE, acknowledge=True):
            assert {"mode", "text", "wav_name", "is_final"} <= set(message)
            assert message["wav_name"] == "demo"


def test_an_end_that_asked_for_it_is_acknowledged_last() -> None:
    got = replies(RecognitionMode.TWO_PASS, final(0, "a"), DONE, acknowledge=True)
    assert got[-1] == {
        "mode": "2pass-offline",
        "text": "",
        "wav_name": "demo",
        "is_final": True,
        "is_end": True,
    }
    assert not [m for m in got[:-1] if "is_end" in m]


def test_a_failure_is_not_acknowledged_as_final() -> None:
    error = StreamError("s", "stream_failed", "the graph broke")
    got = replies(RecognitionMode.TWO_PASS, error, acknowledge=True)[0]
    assert (got["is_final"], got["is_end"], got["error"]) == (False, True, "the graph broke")


def test_a_failure_told_before_the_end_is_still_acknowledged() -> None:
    writer = FunasrWriter(RecognitionMode.TWO_PASS, "demo")
    writer.fail("the graph broke")
    (text,) = writer.end_input(acknowledge=True)
    got = json.loads(text)
    assert (got["is_final"], got["is_end"], got["error"]) == (False, True, "the graph broke")
    assert writer.end_input(acknowledge=False) == []


def test_a_stray_byte_is_said_at_the_end() -> None:
    writer = FunasrWriter(RecognitionMode.TWO_PASS, "demo")
    assert writer.end_input(acknowledge=False, stray_bytes=1) == []
    assert "1 byte(s)" in json.loads(writer.send(DONE)[0])["warning"]


def test_a_failure_leaves_no_client_waiting() -> None:
    error = StreamError("s", "stream_failed", "the graph broke")
    got = replies(RecognitionMode.OFFLINE, error)[0]
    assert (got["is_final"], got["error"]) == (True, "the graph broke")
