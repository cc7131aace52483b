"""Public sets of human speech: which of them are read, and as what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts.train import public
from scripts.train.clips import RATE, ClipSet


def record(path: Path, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(np.arange(int(seconds * RATE)) / 7)
    soundfile.write(str(path), np.pad(tone, 8000), RATE, subtype="PCM_16")


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    more = tmp_path / "more"
    for name in ("7_theo_31", "3_george_0", "5_lucas_2"):
        record(more / "free-spoken-digit-dataset" / "recordings" / f"{name}.wav")
    for person in ("15307130120", "16307130194"):
        for word in ("00", "12", "06", "17"):
            record(more / "DSPSpeech-20" / "speech_data" / person / f"{person}-{word}-01.wav")
    record(more / "speech_commands" / "left" / "abc_nohash_0.wav")
    record(more / "speech_commands" / "marvin" / "abd_nohash_0.wav")
    prompts = tmp_path / "asterisk" / "sounds"
    record(prompts / "en_US_f_Allison" / "digits" / "4.wav")
    record(prompts / "en_US_f_Allison" / "digits" / "14.wav")
    record(prompts / "en_US_f_Allison" / "conf-full.wav", 9.0)
    record(prompts / "fr_CA_f_June" / "conf-full.wav")
    monkeypatch.setattr(public, "PROMPTS", prompts)
    return more


@pytest.fixture
def read(sets: Path, tmp_path: Path) -> dict[str, set[str]]:
    data = tmp_path / "data"
    (data / "fsdd" / "george").mkdir(parents=True)
    public.build(sets, data, tmp_path, 1)
    found: dict[str, set[str]] = {}
    for clip in ClipSet(tmp_path / "more-train").clips:
        found.setdefault(clip.voice, set()).add(clip.text)
    return found


def test_speakers_of_the_tests_and_of_the_data_folder_are_left_out(
    read: dict[str, set[str]],
) -> None:
    assert not {"fsdd-lucas", "fsdd-george", "dsp-16307130194"} & set(read)
    assert "seven" in read["fsdd-theo"]
    assert {"数字", "北京", "speech", "open"} <= read["dsp-15307130120"]


def test_words_outside_the_vocabulary_say_nothing(read: dict[str, set[str]]) -> None:
    assert read["commands-abc"] == {"left"}
    assert read["commands-abd"] == {""}


def test_prompts_are_digits_or_nothing(read: dict[str, set[str]]) -> None:
    assert read["prompts-en"] == {"four"}
    assert read["prompts-en_US_f_Allison"] == read["prompts-fr_CA_f_June"] == {""}


def test_a_word_list_gives_the_words_of_the_vocabulary_and_others_that_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypinyin")
    monkeypatch.setattr(public, "_OTHER_WORDS", 1.0)
    for name in ("打开", "飞机", "事"):
        record(tmp_path / "audio-cmn" / "64k" / "hsk" / f"cmn-{name}.wav")
    monkeypatch.setattr(public, "PROMPTS", tmp_path / "none")
    public.build(tmp_path, None, tmp_path, 1)
    assert {c.text for c in ClipSet(tmp_path / "more-train").clips} == {"打开", ""}
    assert len(ClipSet(tmp_path / "more-train")) == 4  # 打开 three times; 事 sounds like 是.


def test_nothing_there_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "PROMPTS", tmp_path / "none")
    public.build(None, None, tmp_path, 1)
    assert not (tmp_path / "more-train.jsonl").exists()
