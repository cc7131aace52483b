"""OpenAI's shape of finished transcriptions, whole in five formats or streamed as events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.joining import join_texts
from agent.protocols.openai import TranscriptionRequest
from agent.said import by_code
from agent.stamps import Sentence, cues, stamped_units
from agent.subtitles import to_srt, to_vtt
from agent.types import FileTranscript, SpokenCommand, Transcript

UNKNOWN_LANGUAGE = "und"
"""Said where neither the recogniser nor the request named one (ISO 639-2 `undetermined`)."""
_MS = 1000


def render(
    transcript: FileTranscript, request: TranscriptionRequest, remarks: Sequence[str] = ()
) -> tuple[str | dict[str, Any], str]:
    """Body and content type. `remarks` say what of the request the models can't honour."""
    if request.response_format == "text":
        return transcript.text + "\n", "text/plain"
    if request.response_format == "srt":
        return to_srt(transcript.segments), "text/plain"
    if request.response_format == "vtt":
        return to_vtt(transcript.segments), "text/vtt"
    return _json(transcript, request, remarks), "application/json"


def delta_event(text: str) -> dict[str, Any]:
    """More text: all deltas joined are the whole text."""
    return {"type": "transcript.text.delta", "delta": text}


def done_event(
    transcript: FileTranscript, request: TranscriptionRequest, remarks: Sequence[str] = ()
) -> dict[str, Any]:
    """The whole text, with the fields of `verbose_json` where that was asked for."""
    return {"type": "transcript.text.done", **_json(transcript, request, remarks)}


def progress_event(position_s: float, duration_s: float | None) -> dict[str, Any]:
    """How far the file has been read; sent only when it was asked for."""
    duration = None if duration_s is None else round(duration_s, 3)
    return {"type": "progress", "position": round(position_s, 3), "duration": duration}


def encode_event(event: dict[str, Any]) -> bytes:
    """An event as server-sent events write it."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


KEEP_ALIVE = b": working\n\n"
"""A comment: clients pass over it, proxies see life."""
END_OF_EVENTS = b"data: [DONE]\n\n"


class TextGrower:
    """Turns finals, in order, into pieces that joined are the text of all."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> str:
        """What the next final adds, with the space before it where one is needed."""
        before = len(self._text)
        self._text = join_texts([self._text, text])
        return self._text[before:]


def _json(
    transcript: FileTranscript, request: TranscriptionRequest, remarks: Sequence[str]
) -> dict[str, Any]:
    body: dict[str, Any] = {"text": transcript.text}
    if request.response_format == "verbose_json":
        body |= {
            "task": "transcribe",
            "language": _language(transcript, request),
            "duration": round(transcript.duration_s, 3),
        }
        if "segment" in request.granularities:
            parts = [part for segment in transcript.segments for part in cues(segment)]
            body["segments"] = [_segment(i, part) for i, part in enumerate(parts)]
        if "word" in request.granularities:
            body["words"] = [word for s in transcript.segments for word in _words(s)]
    commands = [
        _command(segment, segment.command) for segment in transcript.segments if segment.command
    ]
    if commands:
        body["commands"] = commands
    if transcript.warning:
        body["warning"] = transcript.warning
    if remarks:
        body["remarks"] = list(remarks)
        body["said"] = [by_code(remark) for remark in remarks]
    return body


def _command(segment: Transcript, command: SpokenCommand) -> dict[str, Any]:
    """An addition of this agent: a segment that is one of the configured commands."""
    times = {"start": segment.start_ms / _MS, "end": segment.end_ms / _MS}
    return {"name": command.name, "slots": dict(command.slots), **times}


def _language(transcript: FileTranscript, request: TranscriptionRequest) -> str:
    """The one heard most, else the one asked for."""
    heard = Counter(s.language for s in transcript.segments if s.language)
    if heard:
        return heard.most_common(1)[0][0]
    asked = request.options.language
    return UNKNOWN_LANGUAGE if asked == "auto" else asked


def _segment(number: int, segment: Sentence) -> dict[str, Any]:
    """As long as a subtitle, which is what clients make of it. Fields that only Whisper has hold
    what says nothing: its clients demand them."""
    return {
        "id": number,
        "seek": 0,
        "start": segment.start_ms / _MS,
        "end": segment.end_ms / _MS,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _words(segment: Transcript) -> list[dict[str, Any]]:
    """Words (Han: characters) with their times; the whole segment where they are not known."""
    units = stamped_units(segment)
    if not units:
        return [_word(segment.text, segment.start_ms, segment.end_ms)]
    text = segment.text
    return [_word(text[u.start : u.end], u.start_ms, u.end_ms) for u in units]


def _word(text: str, start_ms: int, end_ms: int) -> dict[str, Any]:
    return {"word": text, "start": start_ms / _MS, "end": end_ms / _MS}
