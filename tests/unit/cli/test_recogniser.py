"""Which models `transcribe` takes, and that a real session runs on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agent.assembly import store_settings
from agent.commands.recogniser import Recogniser, load_recogniser
from agent.config import Config, Models
from agent.engine.base import EngineSettings, ModelFiles
from agent.errors import CompatibilityError, ModelLoadError, UnknownModel
from agent.store.store import ModelStore
from agent.types import (
    Int16,
    Recognition,
    RecognitionMode,
    StreamOptions,
    Transcript,
    VadBoundary,
)
from tests.fake_store import FakeTrials, unchecked


class WholeStream:
    """A VAD that hears speech from 200 ms to 800 ms."""

    def __init__(self) -> None:
        self.boundaries = [VadBoundary("start", 200), VadBoundary("end", 800)]
        self.taken_ms = 0

    def start_stream(self) -> WholeStream:
        return WholeStream()

    def accept(self, samples: Int16) -> list[VadBoundary]:
        self.taken_ms += len(samples) // 16
        due = [b for b in self.boundaries if b.ms <= self.taken_ms]
        self.boundaries = self.boundaries[len(due) :]
        return due

    def finish(self) -> list[VadBoundary]:
        return []


class Reader:
    """Reads the length of what it gets; both kinds of recogniser in one."""

    def __init__(self) -> None:
        self.samples = 0

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        return [Recognition(f"{len(b) // 16} ms", ("ms",), ((0, 10),)) for b in batch]

    def start_stream(self, options: StreamOptions) -> Reader:
        return Reader()

    def accept(self, samples: Int16) -> Recognition:
        self.samples += len(samples)
        return Recognition(f"online {self.samples // 16}")

    def finish(self) -> Recognition:
        return Recognition("online end")


SEEN: list[tuple[str, EngineSettings]] = []


def load_fake(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
    SEEN.append((family, settings))
    if family == "broken":
        raise CompatibilityError("this graph has no such input")
    return WholeStream() if family == "fsmn_vad" else Reader()


def add(folder: Path, model_id: str, task: str, family: str) -> None:
    data = b"graph"
    listed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {
        "schema": 1,
        "id": model_id,
        "family": family,
        "task": task,
        "license": "none",
        "sample_rate": 16000,
        "files": {"model.onnx": listed},
        "variants": [{"name": "a", "provider": "cpu", "graphs": {"model": "model.onnx"}}],
    }
    (folder / model_id).mkdir()
    (folder / model_id / "model.onnx").write_bytes(data)
    (folder / model_id / "manifest.yaml").write_text(yaml.safe_dump(manifest))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SEEN.clear()
    add(tmp_path, "ears", "vad", "fsmn_vad")
    add(tmp_path, "slow", "asr_offline", "paraformer")
    add(tmp_path, "odd", "asr_offline", "broken")
    add(tmp_path, "fast", "asr_online", "paraformer_online")
    return tmp_path


def load(
    folder: Path, model: str | None = None, **lists: list[str]
) -> tuple[Recogniser, list[str]]:
    chosen = {"vad": ["ears"], "asr_online": ["fast"], "asr_offline": ["slow"], **lists}
    config = Config(models=Models(dir=folder, **chosen))  # type: ignore[arg-type]
    warnings: list[str] = []
    store = ModelStore(
        store_settings(config.model_copy(update={"state_dir": folder / "state"})),
        open_trials=FakeTrials(),
        load_model=load_fake,
        check=unchecked,
    )
    return load_recogniser(config, model, warnings.append, store=store), warnings


def transcripts(recogniser: Recogniser) -> list[Transcript]:
    session = recogniser.open("a.wav")
    return session.accept(np.zeros(16000, np.int16)) + session.finish()


def test_the_offline_recogniser_reads_files(folder: Path) -> None:
    recogniser, warnings = load(folder)
    assert recogniser.mode is RecognitionMode.OFFLINE
    assert recogniser.ids == {"vad": "ears", "asr_offline": "slow", "punctuation": "none"}
    assert warnings == []
    (final,) = transcripts(recogniser)
    assert (final.text, final.start_ms, final.end_ms) == ("700 ms", 100, 800)
    assert final.timestamps == ((100, 110),)


def test_the_streaming_recogniser_is_not_loaded_for_nothing(folder: Path) -> None:
    load(folder)
    assert "paraformer_online" not in [family for family, _ in SEEN]


def test_the_configured_silence_reaches_the_vad(folder: Path) -> None:
    load(folder)
    settings = dict(SEEN)["fsmn_vad"]
    assert settings.vad["max_end_silence_time"] == 800
    assert settings.vad["max_single_segment_time"] == 60000


def test_the_streaming_recogniser_stands_in_and_the_reason_is_told(folder: Path) -> None:
    recogniser, warnings = load(folder, asr_offline=["odd"])
    assert recogniser.mode is RecognitionMode.ONLINE
    assert warnings == [
        "warning: asr_offline: odd: this graph has no such input",
        "warning: fast (asr_online) reads instead, less exactly",
    ]
    (final,) = transcripts(recogniser)
    assert (final.text, final.is_final) == ("online end", True)


def test_a_refused_model_before_the_one_in_use_is_told(folder: Path) -> None:
    recogniser, warnings = load(folder, asr_offline=["odd", "slow"])
    assert recogniser.ids["asr_offline"] == "slow"
    assert warnings == ["warning: asr_offline: odd: this graph has no such input"]


def test_a_model_can_be_chosen(folder: Path) -> None:
    assert load(folder, "slow", asr_offline=["odd"])[0].ids["asr_offline"] == "slow"
    recogniser, _ = load(folder, "fast")
    assert recogniser.mode is RecognitionMode.ONLINE
    assert recogniser.ids["asr_online"] == "fast"
    assert "asr_offline" not in recogniser.ids


def test_a_chosen_model_that_fails_is_not_replaced(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such input"):
        load(folder, "odd")


def test_a_model_that_reads_no_speech_can_not_be_chosen(folder: Path) -> None:
    with pytest.raises(CompatibilityError, match="ears is a model for vad"):
        load(folder, "ears")
    with pytest.raises(UnknownModel, match=r"no manifest\.yaml in .*gone"):
        load(folder, "gone")


def test_without_any_recogniser_every_reason_is_told(folder: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load(folder, asr_offline=["odd"], asr_online=["gone"])
    assert "odd: this graph has no such input" in caught.value.message
    assert "gone is not here" in caught.value.message
