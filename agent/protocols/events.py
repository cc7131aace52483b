"""Events as JSON for `/api/v1/stream` and `/api/v1/events`, and what a stream's client sends."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agent.errors import ProtocolError
from agent.protocols.base import (
    INVALID_DATA,
    parse_object,
    read_bool,
    read_chunk_size,
    read_index,
    read_rate,
    read_text,
    wrong,
)
from agent.protocols.hotwords import read_hotwords
from agent.stamps import sentences
from agent.types import (
    AudioGap,
    CommandHeard,
    Int16,
    RecognitionMode,
    SpokenCommand,
    StreamError,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
    VoiceStarted,
    VoiceStopped,
)

_HEADER = struct.Struct("<Q")
MAX_SAMPLE = 2**53
"""Highest sample index: what JavaScript can count."""


@dataclass(frozen=True)
class Start:
    """A client begins a stream, or comes back to one."""

    options: StreamOptions
    resume_id: str = ""
    received_seq: int = 0


@dataclass(frozen=True)
class Stop:
    """No more audio."""


@dataclass(frozen=True)
class Ping:
    """A question for the round trip; `t` is echoed."""

    t: float


def describe(event: StreamEvent) -> tuple[str, dict[str, Any]]:
    """Type and JSON fields of an event; times in ms from the start of its stream."""
    fields: dict[str, Any] = {"session_id": event.session_id}
    if isinstance(event, Transcript):
        return "final" if event.is_final else "partial", fields | _transcript(event)
    if isinstance(event, CommandHeard):
        return "command", fields | _command(event)
    if isinstance(event, VoiceStarted):
        return "voice_started", fields | {
            "segment_id": event.segment_id,
            "start_ms": event.start_ms,
        }
    if isinstance(event, VoiceStopped):
        return "voice_stopped", fields | {"segment_id": event.segment_id, "end_ms": event.end_ms}
    if isinstance(event, AudioGap):
        return "gap", fields | {"start_ms": event.start_ms, "dropped_ms": event.dropped_ms}
    if isinstance(event, StreamError):
        return "error", fields | {"code": event.code, "message": event.message}
    assert isinstance(event, StreamFinished)
    return "stopped", fields | {"duration_ms": event.duration_ms}


def command_fields(command: SpokenCommand) -> dict[str, Any]:
    """A command as JSON tells it wherever it is listed: its name and slots."""
    return {"name": command.name, "slots": dict(command.slots)}


def parse_client_message(text: str) -> Start | Stop | Ping:
    """A text message of `/api/v1/stream`. Raises ProtocolError."""
    fields = parse_object(text)
    kind = fields.get("type")
    if kind == "start":
        return _start(fields)
    if kind == "stop":
        return Stop()
    if kind == "ping":
        t = fields.get("t", 0)
        if isinstance(t, bool) or not isinstance(t, int | float):
            raise wrong("t", t, "a number")
        return Ping(t)
    raise wrong("type", kind, "start, stop or ping")


def parse_audio_frame(data: bytes) -> tuple[int, Int16]:
    """Index of the first sample, and the samples [n]. Raises ProtocolError."""
    if len(data) < _HEADER.size:
        raise ProtocolError(
            f"an audio frame of {len(data)} bytes has no sample index (8 bytes, little-endian)",
            close_code=INVALID_DATA,
        )
    (index,) = _HEADER.unpack_from(data)
    if index > MAX_SAMPLE:
        raise wrong("sample index", index, f"at most {MAX_SAMPLE}")
    if (len(data) - _HEADER.size) % 2:
        raise ProtocolError(
            "an audio frame has an odd number of bytes; samples are 16 bit little-endian",
            close_code=INVALID_DATA,
        )
    return index, np.frombuffer(data, "<i2", offset=_HEADER.size).astype(np.int16)


def _start(fields: Mapping[str, Any]) -> Start:
    mode = read_text(fields, "mode", RecognitionMode.TWO_PASS.value)
    try:
        recognition_mode = RecognitionMode(mode)
    except ValueError:
        raise wrong("mode", mode, "offline, online or 2pass") from None
    options = StreamOptions(
        mode=recognition_mode,
        chunk_size=read_chunk_size(fields),
        sample_rate=read_rate(fields, "sample_rate"),
        hotwords=read_hotwords(fields.get("hotwords")),
        itn=read_bool(fields, "itn", True),
        punctuation=read_bool(fields, "punctuation", True),
        language=read_text(fields, "language", "auto"),
    )
    resume_id = read_text(fields, "resume_id", "")
    return Start(options, resume_id, read_index(fields, "received_seq"))


def _command(event: CommandHeard) -> dict[str, Any]:
    return {
        "segment_id": event.segment_id,
        "start_ms": event.start_ms,
        "end_ms": event.end_ms,
        "text": event.text,
        **command_fields(event.command),
        "phrase": event.command.phrase,
        "edits": event.command.edits,
    }


def _transcript(event: Transcript) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "segment_id": event.segment_id,
        "text": event.text,
        "start_ms": event.start_ms,
        "end_ms": event.end_ms,
    }
    if event.is_final and event.tokens:
        fields["tokens"] = list(event.tokens)
    if event.timestamps:
        fields["timestamps"] = [list(pair) for pair in event.timestamps]
        if found := sentences(event):
            fields["sentences"] = [asdict(sentence) for sentence in found]
    for key in ("spoken", "language", "emotion", "event"):
        if getattr(event, key):
            fields[key] = getattr(event, key)
    if event.command is not None:
        fields["command"] = command_fields(event.command)
    return fields
