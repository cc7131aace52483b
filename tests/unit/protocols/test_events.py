"""The JSON of live streams: what is sent, what is taken, what is refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from agent.errors import ProtocolError
from agent.protocols.events import (
    Ping,
    Start,
    Stop,
    describe,
    parse_audio_frame,
    parse_client_message,
)
from agent.types import (
    AudioGap,
    RecognitionMode,
    StreamError,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
    VoiceStarted,
    VoiceStopped,
)


@pytest.mark.parametrize(
    ("event", "kind", "fields"),
    [
        (VoiceStarted("s", 1, 20), "voice_started", {"segment_id": 1, "start_ms": 20}),
        (VoiceStopped("s", 1, 90), "voice_stopped", {"segment_id": 1, "end_ms": 90}),
        (AudioGap("s", 5, 70), "gap", {"start_ms": 5, "dropped_ms": 70}),
        (StreamError("s", "c", "m"), "error", {"code": "c", "message": "m"}),
        (StreamFinished("s", 9), "stopped", {"duration_ms": 9}),
        (
            Transcript("s", 1, "你", False, 0, 90, ("你",)),
            "partial",
            {"segment_id": 1, "text": "你", "start_ms": 0, "end_ms": 90},
        ),
        (
            Transcript("s", 1, "你", True, 0, 90, ("你",), ((1, 2),), "zh"),
            "final",
            {
                "segment_id": 1,
                "text": "你",
                "start_ms": 0,
                "end_ms": 90,
                "tokens": ["你"],
                "timestamps": [[1, 2]],
                "sentences": [{"text": "你", "start_ms": 1, "end_ms": 2}],
                "language": "zh",
            },
        ),
        (
            Transcript("s", 1, "300", True, 0, 90, spoken="三百"),
            "final",
            {"segment_id": 1, "text": "300", "start_ms": 0, "end_ms": 90, "spoken": "三百"},
        ),
    ],
)
def test_every_event_has_its_json(event: StreamEvent, kind: str, fields: dict[str, Any]) -> None:
    assert describe(event) == (kind, {"session_id": "s", **fields})


def test_start_with_all_fields() -> None:
    message = {
        "type": "start",
        "sample_rate": 48000,
        "mode": "online",
        "hotwords": "a b",
        "itn": False,
        "language": "en",
        "chunk_size": [0, 8, 4],
        "resume_id": "r",
        "received_seq": 7,
    }
    options = StreamOptions(
        RecognitionMode.ONLINE, (0, 8, 4), 48000, (("a", 20), ("b", 20)), False, "en"
    )
    assert parse_client_message(json.dumps(message)) == Start(options, "r", 7)


def test_punctuation_can_be_switched_off() -> None:
    parsed = parse_client_message('{"type": "start", "punctuation": false}')
    assert parsed == Start(StreamOptions(punctuation=False))


def test_start_alone_is_enough() -> None:
    assert parse_client_message('{"type": "start"}') == Start(StreamOptions())


def test_stop_and_ping() -> None:
    assert parse_client_message('{"type": "stop"}') == Stop()
    assert parse_client_message('{"type": "ping", "t": 1.5}') == Ping(1.5)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ({"type": "begin"}, "type"),
        ({}, "type"),
        ({"type": "start", "mode": "office"}, "mode"),
        ({"type": "start", "sample_rate": 10}, "sample_rate"),
        ({"type": "start", "received_seq": -1}, "received_seq"),
        ({"type": "start", "received_seq": "1"}, "received_seq"),
        ({"type": "start", "resume_id": 1}, "resume_id"),
        ({"type": "ping", "t": "now"}, "t is"),
    ],
)
def test_wrong_fields_are_named(message: dict[str, Any], key: str) -> None:
    with pytest.raises(ProtocolError, match=key):
        parse_client_message(json.dumps(message))


def test_audio_frame_is_an_index_and_samples() -> None:
    samples = np.array([1, -2, 32767], np.int16)
    index, got = parse_audio_frame(struct.pack("<Q", 16000) + samples.tobytes())
    assert index == 16000
    assert got.tolist() == samples.tolist()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no sample index"),
        (b"1234567", "no sample index"),
        (struct.pack("<Q", 0) + b"abc", "odd number"),
        (struct.pack("<Q", 2**60), "sample index"),
    ],
)
def test_a_malformed_frame_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as raised:
        parse_audio_frame(data)
    assert raised.value.close_code == 1007
