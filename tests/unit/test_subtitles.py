"""Transcripts as JSON, SRT and WebVTT."""

from __future__ import annotations

from agent.subtitles import segments_json, to_srt, to_vtt
from agent.types import Transcript


def final(text: str, start_ms: int = 0, end_ms: int = 1000, segment_id: int = 0) -> Transcript:
    return Transcript("s", segment_id, text, True, start_ms, end_ms)


def test_srt_numbers_its_cues_and_leaves_out_empty_ones() -> None:
    segments = [
        final("one", 0, 1500),
        final("", 1500, 2000),
        final("two\nlines", 3_661_042, 3_662_000),
    ]
    assert to_srt(segments) == (
        "1\n00:00:00,000 --> 00:00:01,500\none\n\n2\n01:01:01,042 --> 01:01:02,000\ntwo lines\n"
    )


def test_vtt_escapes_its_text() -> None:
    assert to_vtt([final("a < b & c --> d")]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na &lt; b &amp; c --&gt; d\n"
    )


def test_without_speech_the_documents_are_still_valid() -> None:
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n"


def test_a_cue_is_never_without_length() -> None:
    assert "00:00:01,000 --> 00:00:01,001" in to_srt([final("x", 1000, 1000)])


def test_segments_carry_tokens_and_their_times() -> None:
    segment = Transcript("s", 0, "hi", True, 10, 500, ("hi",), ((20, 300),))
    assert segments_json([segment]) == [
        {"start_ms": 10, "end_ms": 500, "text": "hi", "tokens": ["hi"], "timestamps": [[20, 300]]}
    ]
