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
        {
            "start_ms": 10,
            "end_ms": 500,
            "text": "hi",
            "tokens": ["hi"],
            "timestamps": [[20, 300]],
            "sentences": [{"text": "hi", "start_ms": 20, "end_ms": 300}],
        }
    ]


def test_a_segment_whose_numbers_were_rewritten_carries_what_was_spoken() -> None:
    stamps = ((0, 100), (100, 200), (200, 300))
    segment = Transcript("s", 0, "300块", True, 0, 300, tuple("三百块"), stamps, spoken="三百块")
    (fields,) = segments_json([segment])
    assert (fields["text"], fields["spoken"], fields["tokens"]) == ("300块", "三百块", [*"三百块"])


def test_a_segment_with_times_is_cut_at_its_sentences() -> None:
    stamps = tuple((i * 1000, (i + 1) * 1000) for i in range(5))
    segment = Transcript("s", 0, "你好。再见 b！", True, 0, 9000, tuple("你好再见b"), stamps)
    assert to_srt([final("one", 0, 1), segment]).splitlines()[4:7] == [
        "2",
        "00:00:00,000 --> 00:00:02,000",
        "你好。",
    ]
    assert to_vtt([segment]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n你好。\n\n"
        "00:00:02.000 --> 00:00:05.000\n再见 b！\n"
    )
