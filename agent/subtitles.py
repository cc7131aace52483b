"""Transcripts as JSON, SRT and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.types import Transcript

FORMATS = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt"}
"""Output format -> ending of its files."""

_MS = 1000
_MIN_CUE_MS = 1


def segments_json(segments: Sequence[Transcript]) -> list[dict[str, Any]]:
    """The list under `segments` of the JSON format; times in ms from the start of the file."""
    return [
        {
            "start_ms": segment.start_ms,
            "end_ms": segment.end_ms,
            "text": segment.text,
            "tokens": list(segment.tokens),
            "timestamps": [list(pair) for pair in segment.timestamps],
        }
        for segment in segments
    ]


def to_srt(segments: Sequence[Transcript]) -> str:
    """SubRip: one numbered cue a segment; segments without text are left out."""
    cues = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(segments), start=1)
    ]
    return "\n".join(cues)


def to_vtt(segments: Sequence[Transcript]) -> str:
    """WebVTT: one cue a segment, its text escaped; segments without text are left out."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escape(text)}\n"
        for start, end, text in _cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(segments: Sequence[Transcript]) -> list[tuple[int, int, str]]:
    cues = []
    for segment in segments:
        text = " ".join(segment.text.split())
        if text:
            end = max(segment.end_ms, segment.start_ms + _MIN_CUE_MS)
            cues.append((segment.start_ms, end, text))
    return cues


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, _MS)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
