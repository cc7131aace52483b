"""The keeper of the models: what serves changes as a whole, or not at all."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import (
    AgentError,
    CompatibilityError,
    ModelError,
    ModelInUse,
    NoSpace,
    NotReady,
    StoreBusy,
    UnknownModel,
)
from agent.pipeline.model_keeper import ModelKeeper, Serving
from agent.pipeline.service import LiveStream, TranscriptionService
from agent.store.bundle import BundleSource, bundle_stream
from agent.store.disk import Disk
from agent.store.model_set import LoadedModels
from agent.store.trial import TrialRequest, TrialResult
from agent.types import Int16, ModelSet, Recognition, RecognitionMode, StreamOptions, Transcript
from tests.fake_store import PASSED, FakeTrials, fake_store
from tests.fakes import FakeOffline, FakeVad, silence, tone
from tests.model_loading.tiny_models import write_model

VAD = {"model.onnx": b"a graph"}
ASR = {"model.onnx": b"a graph", "tokens.json": b"[]"}
TALK = np.concatenate([silence(3), tone(3, 4), silence(6)])
DEAF = TrialResult(code="golden_mismatch", level="function", message="it hears nothing")
HUGE_MB = 1 << 40


class Named(FakeOffline):
    """A recogniser whose texts say which model read them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        read = super().decode(batch, options)
        return [Recognition(f"{self._name}:{found.text}") for found in read]

    def punctuate(self, text: str) -> str:
        return f"{text}."

    def start_stream(self) -> Named:
        return self


class TunableVad(FakeVad):
    """Takes any settings but a pause of 13."""

    def __init__(self, pause: object = None) -> None:
        self.pause = pause

    def tuned(self, overrides: Mapping[str, Any]) -> TunableVad:
        if overrides.get("pause") == 13:
            raise CompatibilityError("a pause of 13 brings bad luck")
        return TunableVad(overrides.get("pause"))


class FailingDisk(Disk):
    """Fails when a file of this name is written."""

    def __init__(self) -> None:
        self.fails_on = ""

    def write(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.name == self.fails_on:
            raise OSError(28, "No space left on device")
        super().write(path, data, mode)


class Box:
    """A keeper over real folders and fake models."""

    def __init__(
        self, service: TranscriptionService, folder: Path, lists: dict[str, list[str]]
    ) -> None:
        self.service = service
        self.shipped, self.state = folder / "shipped", folder / "state"
        self.sources = folder / "sources"
        self.trials = FakeTrials()
        self.disk = FailingDisk()
        self.refused_by_canary = ""
        self.held_by: StoreBusy | None = None
        self.told: list[Serving] = []
        self.store = fake_store(
            self.shipped,
            self.state,
            lists,
            trials=self.trials,
            load_model=self.load_model,
            disk=self.disk,
        )
        self.keeper = ModelKeeper(self.store, service, self.prove, self.told.append, self.hold)

    def load_model(self, family: str, files: Any, settings: Any) -> Any:
        if family == "broken":
            raise CompatibilityError("the graph has no input speech")
        return TunableVad() if family == "fsmn_vad" else Named(files.model_id)

    async def prove(self, models: ModelSet, loaded: LoadedModels) -> None:
        if self.refused_by_canary in models.ids.values():
            raise RuntimeError("the graph broke")

    def hold(self) -> None:
        if self.held_by is not None:
            raise self.held_by

    def refuse(self, model_id: str, result: TrialResult = DEAF) -> None:
        self.trials.verdict = lambda asked: result if model_id in asked.folder else PASSED

    async def install(self, model_id: str, files: dict[str, bytes], **more: Any) -> str:
        """Its exact name."""
        folder = write_model(self.sources, model_id, files, **more)
        with bundle_stream([BundleSource(model_id, folder)]) as stream:
            (installed,) = await self.keeper.install(stream)
        return installed.folder.name

    async def read(self, audio: Int16 = TALK) -> str:
        return await finals(await self.service.open(offline(), source="test"), audio)

    def roles_file(self) -> bytes | None:
        path = self.state / "roles.yaml"
        return path.read_bytes() if path.exists() else None


def offline() -> StreamOptions:
    return StreamOptions(mode=RecognitionMode.OFFLINE)


async def finals(stream: LiveStream, audio: Int16) -> str:
    """What is read of the audio, which ends the stream."""
    await stream.push(audio)
    await stream.finish()
    said = [event async for event in stream]
    return " ".join(e.text for e in said if isinstance(e, Transcript) and e.is_final)


@pytest.fixture
def lists() -> dict[str, list[str]]:
    """Overridden by tests that need other lists."""
    return {"vad": ["ears"], "asr_offline": ["reader"], "punctuation": ["none"]}


@pytest.fixture
def box(service: TranscriptionService, tmp_path: Path, lists: dict[str, list[str]]) -> Box:
    made = Box(service, tmp_path, lists)
    write_model(made.shipped, "ears", VAD)
    write_model(made.shipped, "reader", ASR)
    return made


async def test_a_switch_serves_new_streams_and_is_recorded(box: Box) -> None:
    await box.keeper.load()
    assert await box.read() == "reader:3333"
    name = await box.install("better", ASR)
    assert await box.read() == "reader:3333"
    loaded = await box.keeper.switch("asr_offline", "better")
    assert (str(loaded.ref), loaded.id) == (name, "better")
    assert await box.read() == "better:3333"
    assert box.store.chosen("asr_offline")[0] == name
    assert box.store.chosen("asr_offline")[1].startswith("reader@")
    assert box.told[-1].loaded.ids == {
        "vad": "ears",
        "asr_offline": "better",
        "punctuation": "none",
    }


async def test_open_streams_finish_on_the_models_that_they_began_with(box: Box) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    stream = await box.service.open(offline(), source="test")
    await stream.push(TALK)
    await box.keeper.switch("asr_offline", "better")
    assert await finals(stream, TALK) == "reader:3333 reader:3333"
    assert await box.read() == "better:3333"


async def test_the_canary_hears_the_new_model_beside_the_others_before_it_serves(box: Box) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    heard: list[tuple[dict[str, str], str]] = []

    async def prove(models: ModelSet, loaded: LoadedModels) -> None:
        heard.append((dict(models.ids), await box.read()))

    keeper = ModelKeeper(box.store, box.service, prove, box.told.append)
    await keeper.load()
    await keeper.switch("asr_offline", "better")
    assert heard[-1] == (
        {"vad": "ears", "asr_offline": "better", "punctuation": "none"},
        "reader:3333",
    )


def refuse_in_trial(box: Box) -> None:
    box.refuse("bad")


def refuse_by_canary(box: Box) -> None:
    box.refused_by_canary = "bad"


def fill_the_disk(box: Box) -> None:
    box.disk.fails_on = "roles.yaml"


@pytest.mark.parametrize(
    ("obstacle", "error", "code", "says"),
    [
        (refuse_in_trial, ModelError, "golden_mismatch", "it hears nothing"),
        (refuse_by_canary, ModelError, "model_error", "fails beside the other models"),
        (fill_the_disk, NoSpace, "no_space", "the disk is full"),
    ],
)
async def test_a_switch_that_fails_leaves_everything_as_it_was(
    box: Box, obstacle: Callable[[Box], None], error: type[AgentError], code: str, says: str
) -> None:
    await box.keeper.load()
    await box.install("good", ASR)
    await box.keeper.switch("asr_offline", "good")
    write_model(box.shipped, "bad", ASR)
    before, told = box.roles_file(), len(box.told)
    obstacle(box)
    with pytest.raises(error) as raised:
        await box.keeper.switch("asr_offline", "bad")
    assert raised.value.code == code
    assert says in raised.value.message
    assert box.roles_file() == before
    assert len(box.told) == told
    assert await box.read() == "good:3333"
    box.disk.fails_on = ""
    await box.keeper.switch("asr_offline", "reader")
    assert await box.read() == "reader:3333"


async def test_a_refusal_names_its_level_and_that_the_role_keeps_its_model(box: Box) -> None:
    await box.keeper.load()
    write_model(box.shipped, "bad", ASR)
    box.refuse("bad")
    with pytest.raises(ModelError, match="asr_offline keeps its model") as raised:
        await box.keeper.switch("asr_offline", "bad")
    assert raised.value.level == "function"


async def test_a_model_that_passes_its_trial_but_can_not_be_loaded_is_refused(box: Box) -> None:
    await box.keeper.load()
    write_model(box.shipped, "bad", ASR, family="broken")
    with pytest.raises(ModelError, match="no input speech") as raised:
        await box.keeper.switch("asr_offline", "bad")
    assert (raised.value.code, raised.value.level) == ("compatibility", "compatibility")
    assert await box.read() == "reader:3333"


async def test_a_model_of_another_task_is_refused(box: Box) -> None:
    await box.keeper.load()
    with pytest.raises(ModelError, match="its task is asr_offline"):
        await box.keeper.switch("vad", "reader")
    assert box.trials.asked[-1].role != "vad" or "reader" not in box.trials.asked[-1].folder


async def test_a_rollback_goes_there_and_back(box: Box) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    await box.keeper.switch("asr_offline", "better")
    assert (await box.keeper.rollback("asr_offline")).id == "reader"
    assert await box.read() == "reader:3333"
    assert (await box.keeper.rollback("asr_offline")).id == "better"
    assert await box.read() == "better:3333"


async def test_without_an_earlier_choice_there_is_nothing_to_go_back_to(box: Box) -> None:
    await box.keeper.load()
    with pytest.raises(UnknownModel, match="no previous model"):
        await box.keeper.rollback("asr_offline")


async def test_choosing_what_serves_already_keeps_the_way_back(box: Box) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    await box.keeper.switch("asr_offline", "better")
    await box.keeper.switch("asr_offline", "better")
    assert (await box.keeper.rollback("asr_offline")).id == "reader"


async def test_what_was_chosen_serves_after_a_restart_without_another_trial(
    box: Box, service: TranscriptionService
) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    await box.keeper.switch("asr_offline", "better")
    asked = len(box.trials.asked)
    again = ModelKeeper(box.store, service, box.prove, box.told.append)
    await again.load()
    assert await box.read() == "better:3333"
    assert len(box.trials.asked) == asked


async def test_one_change_at_a_time_and_the_other_is_told_which(box: Box) -> None:
    await box.keeper.load()
    write_model(box.shipped, "slow", ASR)
    at_work, go_on = threading.Event(), threading.Event()

    def wait(request: TrialRequest) -> TrialResult:
        at_work.set()
        assert go_on.wait(20)
        return PASSED

    box.trials.verdict = wait
    first = asyncio.create_task(box.keeper.switch("asr_offline", "slow"))
    await asyncio.to_thread(at_work.wait, 20)
    changes: list[Callable[[], Any]] = [
        lambda: box.keeper.switch("vad", "ears"),
        lambda: box.keeper.install(io.BytesIO(b"")),
        lambda: box.keeper.remove("slow"),
        lambda: box.keeper.verify(),
    ]
    for change in changes:
        with pytest.raises(StoreBusy, match="the agent is switching asr_offline; try again"):
            await change()
    assert await box.read() == "reader:3333"
    go_on.set()
    assert (await first).id == "slow"
    await box.keeper.verify()


async def test_no_switch_while_the_models_are_being_loaded(box: Box) -> None:
    assert box.keeper.loaded is None
    with pytest.raises(StoreBusy, match="is loading its models"):
        await box.keeper.switch("asr_offline", "reader")
    await box.keeper.load()
    await box.keeper.switch("asr_offline", "reader")


async def test_nothing_changes_while_another_process_changes_the_store(box: Box) -> None:
    await box.keeper.load()
    await box.install("better", ASR)
    box.held_by = StoreBusy("process 7 is changing the model store")
    for change in (box.keeper.switch("asr_offline", "better"), box.keeper.remove("better")):
        with pytest.raises(StoreBusy, match="process 7"):
            await change
    assert box.roles_file() is None
    box.held_by = None
    assert (await box.keeper.switch("asr_offline", "better")).id == "better"


async def test_a_model_that_needs_more_memory_than_is_left_is_refused(box: Box) -> None:
    await box.keeper.load()
    await box.install("giant", ASR, requires={"memory_mb": HUGE_MB})
    with pytest.raises(ModelError, match=f"needs {HUGE_MB} MB") as raised:
        await box.keeper.switch("asr_offline", "giant")
    assert raised.value.code == "no_memory"
    assert await box.read() == "reader:3333"


async def test_a_box_without_a_usable_vad_recovers_by_choosing_a_sound_one(box: Box) -> None:
    box.refuse("ears")
    await box.keeper.load()
    assert "it hears nothing" in box.told[-1].problem
    with pytest.raises(NotReady, match="it hears nothing"):
        await box.read()
    await box.install("sound", VAD)
    await box.keeper.switch("vad", "sound")
    assert await box.read() == "reader:3333"
    assert (box.told[-1].problem, dict(box.told[-1].loaded.failures)) == ("", {})


async def test_a_box_without_any_usable_model_recovers_role_by_role(box: Box) -> None:
    box.trials.verdict = lambda asked: DEAF
    await box.keeper.load()
    box.trials.verdict = lambda asked: PASSED
    await box.keeper.switch("vad", "ears")
    assert "reader" in box.told[-1].problem
    assert "vad" not in box.told[-1].loaded.failures
    with pytest.raises(NotReady):
        await box.read()
    await box.keeper.switch("asr_offline", "reader")
    assert box.told[-1].problem == ""
    assert await box.read() == "reader:3333"


async def test_a_set_that_fails_when_it_runs_does_not_serve_and_says_why(box: Box) -> None:
    box.refused_by_canary = "reader"
    await box.keeper.load()
    assert "the graph broke" in box.told[-1].problem
    with pytest.raises(NotReady, match="the graph broke"):
        await box.read()


async def test_what_serves_can_not_be_removed(box: Box) -> None:
    await box.keeper.load()
    name = await box.install("better", ASR)
    await box.keeper.switch("asr_offline", "better")
    for wanted in ("better", name):
        with pytest.raises(ModelInUse, match="serves asr_offline"):
            await box.keeper.remove(wanted)
    await box.keeper.rollback("asr_offline")
    assert str(await box.keeper.remove("better")) == name
    with pytest.raises(UnknownModel, match="no previous model"):
        await box.keeper.rollback("asr_offline")


@pytest.mark.parametrize("lists", [{"vad": ["ears"], "asr_offline": ["lab"]}])
async def test_what_serves_by_the_configured_list_can_not_be_removed(box: Box) -> None:
    name = await box.install("lab", ASR)
    await box.keeper.load()
    assert await box.read() == "lab:3333"
    with pytest.raises(ModelInUse, match="serves asr_offline"):
        await box.keeper.remove("lab")
    assert (box.state / "models" / name).is_dir()


async def test_a_model_that_came_with_the_agent_stays(box: Box) -> None:
    write_model(box.shipped, "spare", ASR)
    await box.keeper.load()
    for wanted in ("spare", "reader"):
        with pytest.raises(UnknownModel):
            await box.keeper.remove(wanted)
    assert (box.shipped / "spare").is_dir()


async def test_only_punctuation_can_be_without_a_model(box: Box) -> None:
    await box.keeper.load()
    write_model(box.shipped, "marks", ASR, task="punctuation", family="ct_punctuation")
    await box.keeper.switch("punctuation", "marks")
    assert await box.read() == "reader:3333."
    await box.keeper.switch("punctuation", "none")
    assert box.store.chosen("punctuation")[0] == "none"
    assert await box.read() == "reader:3333"
    assert (await box.keeper.rollback("punctuation")).id == "marks"
    assert await box.read() == "reader:3333."
    with pytest.raises(AgentError):
        await box.keeper.switch("vad", "none")
    assert box.told[-1].loaded.ids["vad"] == "ears"


async def test_the_first_punctuation_model_rolls_back_to_none(box: Box) -> None:
    await box.keeper.load()
    write_model(box.shipped, "marks", ASR, task="punctuation", family="ct_punctuation")
    await box.keeper.switch("punctuation", "marks")
    assert (await box.keeper.rollback("punctuation")).id == "none"


async def test_a_damaged_roles_file_is_told_and_a_choice_writes_it_anew(box: Box) -> None:
    box.state.mkdir()
    (box.state / "roles.yaml").write_text("vad: [")
    await box.keeper.load()
    assert await box.read() == "reader:3333"
    assert "roles.yaml" in box.told[-1].store_problems[0]
    await box.keeper.switch("asr_offline", "reader")
    assert box.told[-1].store_problems == ()
    assert box.store.chosen("asr_offline")[0].startswith("reader@")


async def test_what_a_check_finds_is_told_until_the_next_one(box: Box) -> None:
    await box.keeper.load()
    box.refuse("reader")
    checkups = await box.keeper.verify()
    assert {c.ref.partition("@")[0]: c.serves for c in checkups} == {"ears": True, "reader": False}
    assert any("it hears nothing" in problem for problem in box.told[-1].store_problems)
    assert await box.read() == "reader:3333"
    box.trials.verdict = lambda asked: PASSED
    await box.keeper.verify()
    assert box.told[-1].store_problems == ()


async def test_a_bundle_that_is_refused_leaves_the_keeper_free_and_nothing_behind(
    box: Box,
) -> None:
    await box.keeper.load()
    box.refuse("staging")
    with pytest.raises(ModelError, match="it hears nothing"):
        await box.install("better", ASR)
    assert list((box.state / "models").iterdir()) == []
    box.trials.verdict = lambda asked: PASSED
    write_model(box.sources / "again", "better", ASR)
    with bundle_stream([BundleSource("better", box.sources / "again" / "better")]) as stream:
        assert len(await box.keeper.install(stream)) == 1


async def test_whoever_finds_the_agent_ready_finds_its_models_named(box: Box) -> None:
    """New streams and the status change in one step of the loop."""
    before, seen = box.service.models, list[tuple[bool, bool]]()
    loading = asyncio.create_task(box.keeper.load())
    while not loading.done():
        seen.append((box.service.models is not before, bool(box.told)))
        await asyncio.sleep(0)
    await loading
    assert (True, False) not in seen
    assert box.told[-1].loaded.ids["vad"] == "ears"


def pause(box: Box) -> object:
    """What the VAD in use was told, as the status shows it."""
    return box.told[-1].loaded.roles["vad"].model.pause


async def test_other_settings_of_the_vad_reach_new_streams_and_last_through_a_switch(
    box: Box,
) -> None:
    await box.keeper.load()
    assert pause(box) is None
    before = box.service.models
    box.keeper.tune_vad({"pause": 5})
    assert pause(box) == 5
    assert box.service.models is not before
    assert await box.read() == "reader:3333"
    await box.install("better", ASR)
    await box.keeper.switch("asr_offline", "better")
    assert pause(box) == 5
    assert await box.read() == "better:3333"


async def test_settings_that_the_vad_can_not_take_change_nothing(box: Box) -> None:
    await box.keeper.load()
    box.keeper.tune_vad({"pause": 5})
    before = box.service.models
    with pytest.raises(ModelError, match="bad luck"):
        box.keeper.tune_vad({"pause": 13})
    assert box.service.models is before
    assert pause(box) == 5


async def test_settings_that_come_while_models_load_are_taken_when_they_serve(box: Box) -> None:
    box.keeper.tune_vad({"pause": 5})
    await box.keeper.load()
    assert pause(box) == 5


async def test_a_vad_that_can_not_take_the_settings_serves_with_its_own(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box.keeper.tune_vad({"pause": 13})
    await box.keeper.load()
    assert await box.read() == "reader:3333"
    assert "brings bad luck" in caplog.text
