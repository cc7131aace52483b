"""The families on the models that come with the agent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.session import Session
from agent.store.library import Library
from agent.store.model_set import load_models
from agent.types import Int16, ModelSet, RecognitionMode, SpeechSegment, StreamOptions, Transcript


@pytest.fixture(scope="module")
def models(root: Path) -> ModelSet:
    lists: Any = {
        "vad": ["builtin-vad"],
        "asr_online": ["builtin-online"],
        "asr_offline": ["builtin-offline"],
    }
    settings = {role: EngineSettings() for role in lists}
    return load_models(lists, Library(root / "none", root / "models"), settings).model_set()


def clips(root: Path) -> list[tuple[str, str]]:
    rows = (root / "tests/data/clips/transcripts.tsv").read_text(encoding="utf-8").splitlines()
    return [(row.split("\t")[0], row.split("\t")[2]) for row in rows[1:]]


def read(root: Path, name: str) -> Int16:
    samples, rate = soundfile.read(root / "tests/data/clips" / name, dtype="int16")
    assert rate == 16000
    return samples  # type: ignore[no-any-return]


def transcribe(models: ModelSet, audio: Int16, mode: RecognitionMode) -> str:
    session = Session(models, StreamOptions(mode=mode))
    finals = []
    for item in [*session.accept(audio), *session.finish()]:
        if isinstance(item, SpeechSegment):
            finals.append(session.decode(item).text)
        elif isinstance(item, Transcript) and item.is_final:
            finals.append(item.text)
    return " ".join(text for text in finals if text)


def test_every_clip_is_read_by_the_offline_pass(root: Path, models: ModelSet) -> None:
    for name, text in clips(root):
        assert transcribe(models, read(root, name), RecognitionMode.OFFLINE) == text, name


def test_most_clips_are_read_by_the_streaming_pass(root: Path, models: ModelSet) -> None:
    right = [
        transcribe(models, read(root, name), RecognitionMode.ONLINE) == text
        for name, text in clips(root)
    ]
    assert sum(right) >= len(right) * 0.6


@pytest.mark.parametrize("pause_ms", [900, 1250, 2000])
def test_a_pause_behind_a_command_takes_no_word_of_it(
    root: Path, models: ModelSet, pause_ms: int
) -> None:
    """The detector cuts the segment 100 ms behind the word; silence follows, then another clip."""
    pause = np.zeros(16 * pause_ms, np.int16)
    for (one, first), (two, second) in pairwise(clips(root)):
        audio = np.concatenate([read(root, one), pause, read(root, two), pause])
        text = transcribe(models, audio, RecognitionMode.OFFLINE)
        assert text == f"{first} {second}", f"{one}, {two}"


@pytest.mark.parametrize("trail_ms", [80, 150, 300])
def test_the_recogniser_reads_a_clip_that_is_cut_close(
    root: Path, models: ModelSet, trail_ms: int
) -> None:
    assert models.offline is not None
    right = []
    for name, text in clips(root):
        audio = read(root, name)
        loud = np.flatnonzero(np.abs(audio.astype(np.int32)) > 0.02 * np.abs(audio).max())
        cut = np.concatenate([audio[: loud[-1] + 1], np.zeros(16 * trail_ms, np.int16)])
        right.append(models.offline.decode([cut], StreamOptions())[0].text == text)
    assert sum(right) >= len(right) - 1


@pytest.mark.parametrize("mode", list(RecognitionMode))
def test_silence_and_white_noise_give_no_text(models: ModelSet, mode: RecognitionMode) -> None:
    noise = np.random.default_rng(1).standard_normal(16000 * 10)
    for level in (0, 3, 30, 300, 1000, 3000, 10000):
        audio = np.clip(noise * level, -32768, 32767).astype(np.int16)
        assert transcribe(models, audio, mode) == "", f"level {level}"


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 2000, 5000])
def test_audio_in_which_no_token_fires_is_an_empty_text(models: ModelSet, samples: int) -> None:
    assert models.offline is not None
    assert models.offline.decode([np.zeros(samples, np.int16)], StreamOptions())[0].text == ""


@pytest.mark.parametrize(
    "chunk_size", [(5, 10, 5), (0, 10, 5), (8, 8, 4), (5, 5, 10), (0, 1, 0), (2, 3, 9)]
)
@pytest.mark.parametrize("cut", [1600, 777])
def test_streaming_does_not_depend_on_the_cut_at_any_chunk_size(
    root: Path, models: ModelSet, chunk_size: tuple[int, int, int], cut: int
) -> None:
    assert models.online is not None
    audio = read(root, clips(root)[0][0])
    options = StreamOptions(chunk_size=chunk_size)
    whole, pieces = models.online.start_stream(options), models.online.start_stream(options)
    whole.accept(audio)
    for i in range(0, len(audio), cut):
        pieces.accept(audio[i : i + cut])
    assert pieces.finish() == whole.finish()


def test_a_streaming_hypothesis_only_grows(root: Path, models: ModelSet) -> None:
    assert models.online is not None
    for name, _ in clips(root):
        audio, stream = read(root, name), models.online.start_stream(StreamOptions())
        seen: tuple[str, ...] = ()
        for i in range(0, len(audio), 1600):
            read_now = stream.accept(audio[i : i + 1600])
            if read_now is not None:
                assert read_now.tokens[: len(seen)] == seen
                assert len(read_now.tokens) > len(seen)
                seen = read_now.tokens
        assert stream.finish().tokens[: len(seen)] == seen


def test_a_streaming_utterance_without_audio_is_empty(models: ModelSet) -> None:
    assert models.online is not None
    assert models.online.start_stream(StreamOptions()).finish().text == ""


class Stricter:
    """A shipped model that rejects what is below a probability."""

    def __init__(self, folder: Path, least: float) -> None:
        self.model_id = folder.name
        self._folder, self._least = folder, least

    def read(self, name: str) -> bytes:
        data = (self._folder / name).read_bytes()
        if name != "config.yaml":
            return data
        config = yaml.safe_load(data) | {"rejection_conf": {"min_probability": self._least}}
        return yaml.safe_dump(config).encode()

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def graph(self, role: str) -> bytes:
        return self.read(f"{role}_quant.onnx")


@pytest.mark.parametrize(("least", "reads"), [(0.0, True), (0.999, False)])
def test_a_text_below_the_probability_of_its_model_is_none(
    root: Path, least: float, reads: bool
) -> None:
    name, _ = clips(root)[0]
    audio = read(root, name)
    files = Stricter(root / "models/builtin-offline", least)
    offline: Any = load_model("paraformer", files, EngineSettings())
    assert bool(offline.decode([audio], StreamOptions())[0].text) is reads
    files = Stricter(root / "models/builtin-online", least)
    online: Any = load_model("paraformer_online", files, EngineSettings())
    stream = online.start_stream(StreamOptions())
    assert (stream.accept(audio) is not None) is reads
    assert bool(stream.finish().text) is reads
