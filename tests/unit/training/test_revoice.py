"""Other speakers from a recording: what changes, and what does not."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from scripts.train import invented, others, revoice, vocabulary
from scripts.train.accents import SPELLED, WORDS
from scripts.train.clips import RATE, Clip, write

BINS = 513
SAME = revoice.Likeness(
    pitch=1.0, melody=1.0, tract=1.0, wiggle=(0.0, 1.0, 0.0), tilt=0.0, breath=1.0, pace=1.0,
    rhythm=(0.0, 0.0),
)  # fmt: skip


def word(frames: int, formant: int, pitch: float = 120.0) -> revoice.Parts:
    """A vowel that rises: its formant moves up by 60 bins; the last quarter has no voice."""
    bins = np.arange(BINS)
    centres = formant + np.linspace(0, 60, frames)
    envelope = -(((bins[None] - centres[:, None]) / 12) ** 2) - 2
    pitches = np.full(frames, pitch)
    pitches[-frames // 4 :] = 0
    return revoice.Parts(pitches, np.maximum(envelope, -20), np.full((frames, BINS), 0.1))


def formants(parts: revoice.Parts) -> np.ndarray:
    return parts.envelope.argmax(1)


def test_the_same_speaker_says_the_same() -> None:
    before = word(40, 60)
    after = revoice.changed(before, SAME)
    assert np.allclose(after.envelope, before.envelope)
    assert np.allclose(after.pitch, before.pitch)
    assert np.allclose(after.breath, before.breath)


def test_a_shorter_tract_moves_formants_up_and_a_pitch_moves_voiced_frames_only() -> None:
    before = word(40, 60)
    after = revoice.changed(before, dataclasses.replace(SAME, tract=1.2, pitch=1.5))
    assert np.allclose(formants(after), formants(before) * 1.2, atol=1.5)
    assert np.allclose(after.pitch[:30], 180)
    assert not after.pitch[30:].any()


def test_a_slower_speaker_takes_longer_and_a_rhythm_keeps_the_ends() -> None:
    before = word(40, 60)
    after = revoice.changed(before, dataclasses.replace(SAME, pace=1.3, rhythm=(0.25, 1.0)))
    assert len(after.pitch) == 52
    assert abs(formants(after)[0] - 60) <= 2
    assert abs(formants(after)[-1] - 120) <= 2


def test_a_melody_is_flattened_around_its_middle() -> None:
    before = word(40, 60)
    before.pitch[:30] = np.linspace(100, 200, 30)
    after = revoice.changed(before, dataclasses.replace(SAME, melody=0.1)).pitch[:30]
    assert 130 < after.min() < after.max() < 160


def test_between_two_speakers_lies_a_third() -> None:
    slow, quick = word(60, 60, 100.0), word(30, 60, 225.0)
    third = revoice.between(slow, quick, 0.5)
    assert 40 <= len(third.pitch) <= 50
    assert third.pitch[0] == pytest.approx(150)
    # The formant rises all the way in both: laid on each other, it does so in between as well.
    assert abs(formants(third)[0] - 60) <= 3
    assert abs(formants(third)[-1] - 120) <= 3
    assert (np.diff(formants(third)) >= 0).all()


def test_drawn_speakers_differ_and_stay_human() -> None:
    drawn = [revoice.likeness(random.Random(seed)) for seed in range(300)]
    low, high = (np.array([d.tract for d in drawn if (d.pitch > 1) == up]) for up in (False, True))
    assert low.mean() + 0.05 < high.mean()
    assert all(revoice.TRACT[0] <= d.tract <= revoice.TRACT[1] for d in drawn)
    assert len({d.pitch for d in drawn}) == 300


def test_every_spelling_has_every_word_of_the_vocabulary() -> None:
    assert set(WORDS) <= set(vocabulary.ENGLISH_WORDS)
    for language, words in SPELLED.items():
        assert list(words) == WORDS, language
        assert all(words.values())


def test_no_test_voice_is_among_the_further_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "_has_pico", lambda: True)
    monkeypatch.setattr(others, "_has_rhvoice", lambda: True)
    found = others.voices.__wrapped__()
    assert {"pico-en-GB", "pico-de-DE", "rhvoice-bdl"} <= {voice.name for voice in found}
    assert not any("slt" in voice.name for voice in found)
    assert {voice.spelling for voice in found} - {None} <= set(SPELLED)


def test_people_are_found_by_word_once_a_recording(tmp_path: Path) -> None:
    tone = (8000 * np.sin(np.arange(RATE // 2) / 9)).astype(np.int16)

    def clip(text: str, voice: str, lang: str = "en") -> tuple[Clip, np.ndarray]:
        return Clip(text, tuple(vocabulary.tokens_of(text)), voice, lang, "digits"), tone

    items = [clip("two", "a"), clip("two", "a"), clip("two", "b"), clip("two three", "b")]
    write(tmp_path / "human-train", [*items, clip("", "c", "other"), clip("语音", "d", "zh")])
    people = invented.People(tmp_path)
    assert {word: sorted(voices) for word, voices in people.said.items()} == {
        "two": ["a", "b"],
        "语音": ["d"],
    }
    assert len(people.said["two"]["a"]) == 1


def test_without_further_voices_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(others, "voices", tuple)
    others.build(tmp_path, 1)
    assert "further voices: none" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_voice_with_an_accent_reads_the_spelling_and_is_labelled_with_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def say(text: str, _rng: random.Random, _wav: Path) -> np.ndarray:
        said.append(text)
        return np.sin(np.arange(RATE) / 9).astype(np.float32)

    monkeypatch.setattr(others, "voices", lambda: (others.Voice("x-de", say, 1.0, "de"),))
    monkeypatch.setattr(others, "_AGAIN", 0.0)
    clips = [made[0] for made in (others.make_clip((1, i)) for i in range(40)) if made]
    assert len(clips) == 40
    for clip, spoken in zip(clips, said, strict=True):
        assert spoken.split() == [SPELLED["de"][word] for word in clip.text.split()]
        assert set(clip.tokens) <= set(vocabulary.TOKEN_ID)


def test_words_said_in_one_breath_have_no_silence_between() -> None:
    word = np.pad(np.sin(np.arange(RATE // 2) / 9).astype(np.float32), 2000)
    text, audio = invented.connected(
        [("two", word), ("six", word), ("one", word)], random.Random(1)
    )
    assert text == "two six one"
    assert 1.3 * RATE < len(audio) <= 1.5 * RATE
    quiet = np.abs(audio).reshape(-1)[: len(audio) // 160 * 160].reshape(-1, 160).max(1) < 0.3
    assert not quiet.any()
