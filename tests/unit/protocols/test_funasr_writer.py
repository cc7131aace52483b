"""The replies that satisfy every FunASR client at once."""

from __future__ import annotations

import json
from typing import Any

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
        ("2pass-online", "stop", False),
        ("2pass-offline", "stop", False),
        ("2pass-offline", "", True),
    ]


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
    assert got["timestamp"] == "[[430, 670], [670, 810]]"
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


def test_a_failure_leaves_no_client_waiting() -> None:
    error = StreamError("s", "stream_failed", "the graph broke")
    got = replies(RecognitionMode.OFFLINE, error)[0]
    assert (got["is_final"], got["error"]) == (True, "the graph broke")
