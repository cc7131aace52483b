"""A role takes the first model of its list that loads, and says why the others did not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from agent.engine.base import EngineSettings, ModelFiles
from agent.errors import CompatibilityError, ModelLoadError
from agent.store.library import Library
from agent.store.loader import NoUsableModel, first_variant, load_role
from agent.store.model_set import load_models
from tests.fake_store import unchecked

from .conftest import MakeModel, listed, write_manifest

SETTINGS = EngineSettings()


def library(folder: Path) -> Library:
    return Library(folder / "installed", folder / "models")


class Adder:
    """Runs the graph of the fixtures."""

    def __init__(self, graph: bytes) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def add(self, value: float) -> float:
        return float(self.session.run(None, {"x": np.array([value], np.float32)})[0][0])


def load_adder(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
    if family != "adder":
        raise CompatibilityError(f"family {family} is not known")
    return Adder(files.graph("model"))


ADDER: Any = {"load_model": load_adder, "check": unchecked}


def spoil(folder: Path) -> None:
    data = bytearray((folder / "model_quant.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model_quant.onnx").write_bytes(data)


def test_the_first_sound_model_serves(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("one")
    ticks = iter([10.0, 10.5])
    loaded = load_role(
        "vad",
        ["one"],
        library(tmp_path),
        SETTINGS,
        **ADDER,
        clock=lambda: next(ticks),
    )
    assert loaded.model.add(2.0) == 3.0
    assert (loaded.id, loaded.provider, loaded.load_time_s) == ("one", "cpu", 0.5)
    assert loaded.variant is not None
    assert loaded.variant.name == "int8"
    assert loaded.manifest is not None
    assert loaded.sha256 == loaded.manifest.sha256
    assert loaded.refusals == ()


def test_a_broken_model_is_refused_and_the_next_serves(
    make_model: MakeModel, tmp_path: Path
) -> None:
    spoil(make_model("one"))
    make_model("two", offset=5.0)
    loaded = load_role("vad", ["one", "two"], library(tmp_path), SETTINGS, **ADDER)
    assert loaded.model.add(2.0) == 7.0
    assert [(r.id, r.code) for r in loaded.refusals] == [("one", "integrity")]
    assert "model_quant.onnx: sha256 is" in str(loaded.refusals[0])


def test_when_all_are_refused_every_reason_is_told(make_model: MakeModel, tmp_path: Path) -> None:
    spoil(make_model("one"))
    make_model("reader", task="asr_offline")
    make_model("foreign", family="other")
    make_model("slow", sample_rate=8000)
    gpu = [{"name": "fp32", "provider": "cuda", "graphs": {"model": "model.onnx"}}]
    make_model("gpu", variants=gpu)
    (make_model("renamed")).rename(tmp_path / "models" / "other-name")
    ids = ["one", "absent", "../one", "reader", "foreign", "slow", "gpu", "other-name", "none"]
    with pytest.raises(NoUsableModel) as caught:
        load_role("vad", ids, library(tmp_path), SETTINGS, **ADDER)
    refusals = {r.id: (r.code, r.message) for r in caught.value.refusals}
    assert list(refusals) == ids
    assert refusals["one"][0] == "integrity"
    assert "no manifest.yaml in" in refusals["absent"][1]
    assert "'../one' is not a model id" in refusals["../one"][1]
    assert refusals["reader"] == (
        "compatibility",
        "its task is asr_offline, it can't serve as vad",
    )
    assert refusals["foreign"] == ("compatibility", "family other is not known")
    assert "made for 8000 Hz" in refusals["slow"][1]
    assert refusals["gpu"][1] == "it has no variant for cpu, only for cuda"
    assert "the id is 'renamed', the folder is 'other-name'" in refusals["other-name"][1]
    assert "no manifest.yaml" in refusals["none"][1]
    assert isinstance(caught.value, ModelLoadError)
    assert caught.value.code == "model_load"
    for model_id in ids:
        assert model_id in caught.value.message


def test_a_graph_that_the_runtime_refuses_is_a_refusal(
    make_model: MakeModel, tmp_path: Path
) -> None:
    folder = make_model("one")
    junk = b"not a graph at all"
    (folder / "model_quant.onnx").write_bytes(junk)
    manifest = {
        "schema": 1,
        "id": "one",
        "family": "adder",
        "task": "vad",
        "license": "none",
        "sample_rate": 16000,
        "files": {"model_quant.onnx": listed(junk)},
        "variants": [{"name": "a", "provider": "cpu", "graphs": {"model": "model_quant.onnx"}}],
    }
    write_manifest(folder, manifest)
    with pytest.raises(NoUsableModel, match="can't be loaded: InvalidProtobuf") as caught:
        load_role("vad", ["one"], library(tmp_path), SETTINGS, **ADDER)
    assert caught.value.refusals[0].code == "model_load"


def test_a_model_that_fails_its_smoke_run_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("one")
    make_model("two", offset=5.0)

    def check(role: str, model: Adder, files: object) -> None:
        if model.add(0.0) != 5.0:
            raise ValueError(f"{role} gives nonsense")

    loaded = load_role(
        "vad",
        ["one", "two"],
        library(tmp_path),
        SETTINGS,
        load_model=load_adder,
        check=check,
    )
    assert loaded.id == "two"
    assert loaded.refusals[0].message == "can't be loaded: ValueError: vad gives nonsense"


def test_punctuation_may_end_in_none(make_model: MakeModel, tmp_path: Path) -> None:
    spoil(make_model("marks", task="punctuation"))
    loaded = load_role(
        "punctuation",
        ["marks", "none"],
        library(tmp_path),
        SETTINGS,
        **ADDER,
    )
    assert loaded.model is None
    assert loaded.id == "none"
    assert loaded.refusals[0].code == "integrity"


def test_an_empty_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoUsableModel, match="the list is empty"):
        load_role("vad", [], library(tmp_path), SETTINGS, **ADDER)


def test_bytes_are_released_after_loading(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("one")
    seen: list[ModelFiles] = []

    def load(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
        seen.append(files)
        return load_adder(family, files, settings)

    load_role("vad", ["one"], library(tmp_path), SETTINGS, load_model=load, check=unchecked)
    with pytest.raises(Exception, match="not kept"):
        seen[0].graph("model")


@pytest.fixture
def three(make_model: MakeModel) -> Iterator[None]:
    make_model("ears")
    make_model("fast", task="asr_online")
    make_model("slow", task="asr_offline")
    return None


LISTS = {
    "vad": ["ears"],
    "asr_online": ["fast"],
    "asr_offline": ["slow"],
    "punctuation": ["none"],
}


def test_all_roles_make_a_set(three: None, tmp_path: Path) -> None:
    loaded = load_models(LISTS, library(tmp_path), {}, **ADDER)
    models = loaded.model_set()
    assert isinstance(models.vad, Adder)
    assert models.punctuation is None
    assert models.ids == {
        "vad": "ears",
        "asr_online": "fast",
        "asr_offline": "slow",
        "punctuation": "none",
    }
    assert loaded.refusals == {}


def test_one_recogniser_is_enough(three: None, tmp_path: Path) -> None:
    spoil(tmp_path / "models" / "slow")
    loaded = load_models(LISTS, library(tmp_path), {}, **ADDER)
    models = loaded.model_set()
    assert models.online is not None
    assert models.offline is None
    assert list(loaded.refusals) == ["asr_offline"]


def test_without_a_vad_there_is_no_set(three: None, tmp_path: Path) -> None:
    spoil(tmp_path / "models" / "ears")
    loaded = load_models(LISTS, library(tmp_path), {}, **ADDER)
    assert list(loaded.failures) == ["vad"]
    with pytest.raises(ModelLoadError, match=r"no model of models\.vad can be used"):
        loaded.model_set()


def test_without_a_recogniser_there_is_no_set(three: None, tmp_path: Path) -> None:
    loaded = load_models({"vad": ["ears"]}, library(tmp_path), {}, **ADDER)
    with pytest.raises(ModelLoadError, match="neither a streaming nor an offline"):
        loaded.model_set()


def test_two_roles_are_loaded_side_by_side_and_in_order(three: None, tmp_path: Path) -> None:
    spoil(tmp_path / "models" / "ears")
    meeting = threading.Barrier(2, timeout=30)

    def meet(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
        meeting.wait()
        return load_adder(family, files, settings)

    loaded = load_models(
        LISTS,
        library(tmp_path),
        {},
        load_model=meet,
        check=unchecked,
        at_once=2,
        available=lambda: 1 << 30,
    )
    assert list(loaded.roles) == ["asr_online", "asr_offline", "punctuation"]
    assert list(loaded.failures) == ["vad"]


def test_a_box_short_of_memory_loads_one_role_after_the_other(three: None, tmp_path: Path) -> None:
    loading: list[str] = []

    def alone(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
        assert not loading
        loading.append(family)
        time.sleep(0.05)
        loading.clear()
        return load_adder(family, files, settings)

    loaded = load_models(
        LISTS,
        library(tmp_path),
        {},
        load_model=alone,
        check=unchecked,
        at_once=2,
        available=lambda: 10,
    )
    assert loaded.model_set().ids["asr_online"] == "fast"


def test_choosing_is_never_done_side_by_side(three: None, tmp_path: Path) -> None:
    choosing: list[str] = []
    chosen: list[str] = []

    def choose(role: str, found: Any, settings: EngineSettings) -> Any:
        assert not choosing
        choosing.append(role)
        time.sleep(0.02)
        choosing.clear()
        chosen.append(role)
        return first_variant(role, found, settings)  # type: ignore[arg-type]

    load_models(LISTS, library(tmp_path), {}, choose=choose, **ADDER, at_once=3)
    assert sorted(chosen) == ["asr_offline", "asr_online", "vad"]


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("failure", [OSError("the disk is full"), CompatibilityError("too new")])
def test_a_model_that_can_not_be_chosen_is_refused_once(
    three: None, tmp_path: Path, at_once: int, failure: Exception
) -> None:
    asked: list[str] = []

    def choose(role: str, found: Any, settings: EngineSettings) -> Any:
        asked.append(role)
        if role == "asr_offline":
            raise failure
        return first_variant(role, found, settings)  # type: ignore[arg-type]

    loaded = load_models(LISTS, library(tmp_path), {}, choose=choose, **ADDER, at_once=at_once)
    assert sorted(asked) == ["asr_offline", "asr_online", "vad"]
    assert [role for role in loaded.roles if loaded.roles[role].model] == ["vad", "asr_online"]
    (refusal,) = loaded.failures["asr_offline"].refusals
    assert str(failure) in refusal.message
