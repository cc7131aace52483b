"""Transcripts as JSON, SRT and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agent.stamps import cues, sentences
from agent.types import Transcript

FORMATS = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt"}
"""Output format -> ending of its files."""

_MS = 1000
_MIN_CUE_MS = 1


def segments_json(segments: Sequence[Transcript]) -> list[dict[str, Any]]:
    """The list under `segments` of the JSON format; times in ms from the start of the file."""
    return [_segment_json(segment) for segment in segments]


def to_srt(segments: Sequence[Transcript]) -> str:
    """SubRip: numbered cues; a segment is cut at its sentences where the times of its words are
    known. Segments without text are left out."""
    written = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(segments), start=1)
    ]
    return "\n".join(written)


def to_vtt(segments: Sequence[Transcript]) -> str:
    """WebVTT: the same cues, their text escaped."""
    written = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape(text)}\n"
        for start, end, text in _cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *written])


def _cues(segments: Sequence[Transcript]) -> list[tuple[int, int, str]]:
    found = []
    for part in (part for segment in segments for part in cues(segment)):
        text = " ".join(part.text.split())
        if text:
            end = max(part.end_ms, part.start_ms + _MIN_CUE_MS)
            found.append((part.start_ms, end, text))
    return found


def _segment_json(segment: Transcript) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "start_ms": segment.start_ms,
        "end_ms": segment.end_ms,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "timestamps": [list(pair) for pair in segment.timestamps],
    }
    if found := sentences(segment):
        fields["sentences"] = [asdict(sentence) for sentence in found]
    if segment.spoken:
        fields["spoken"] = segment.spoken
    return fields


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, _MS)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
