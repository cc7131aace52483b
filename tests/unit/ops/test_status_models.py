"""What status and health say of the models: what serves, what was refused, and at which level."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.config import Config, Vad
from agent.engine.endpoint import VadParameters
from agent.engine.itn import Grammar, InverseNormalizer
from agent.engine.session import SessionSettings
from agent.errors import ModelError
from agent.live_config import LiveConfig
from agent.ops.canary import Canary
from agent.ops.metrics import Metrics
from agent.ops.status import AgentStatus
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.model_keeper import ModelKeeper
from agent.pipeline.service import Limits, TranscriptionService
from agent.protocols.events import describe
from agent.store.model_set import LoadedModels
from agent.store.trial import TrialRequest, TrialResult
from agent.types import ModelSet
from tests.fake_store import PASSED, FakeTrials, fake_store
from tests.fakes import fake_models, tone
from tests.model_loading.tiny_models import write_model

VAD = {"model.onnx": b"a graph"}
ASR = {"model.onnx": b"a graph", "tokens.json": b"[]"}
FLIPPED = TrialResult(code="integrity", level="integrity", message="model.onnx: sha256 is 3f2a...")


class Box:
    """The status of an agent over fake models, told by a keeper."""

    def __init__(self, folder: Path) -> None:
        self.shipped, self.state = folder / "shipped", folder / "state"
        self.lanes = (Lane("online", 8), Lane("offline", 8))
        self.service = TranscriptionService(
            *self.lanes, Hub(100, 100), Limits(), SessionSettings(), describe
        )
        self.canary = Canary(*self.lanes, period_s=1000)
        self.trials = FakeTrials(self.verdict)
        self.refused: dict[str, TrialResult] = {}
        self.breaking = ""
        self.vad = fake_models().vad
        store = fake_store(
            self.shipped,
            self.state,
            {"vad": ["ears"], "asr_offline": ["best", "reader"]},
            trials=self.trials,
            load_model=self.load_model,
        )
        self.status = AgentStatus(LiveConfig(Config()), self.service, self.canary, Metrics(), store)
        self.keeper = ModelKeeper(store, self.service, self.prove, self.status.serves)

    def verdict(self, asked: TrialRequest) -> TrialResult:
        return self.refused.get(Path(asked.folder).name, PASSED)

    def load_model(self, family: str, files: Any, settings: Any) -> Any:
        models = fake_models(fail_on="33333" if files.model_id == self.breaking else "")
        return self.vad if family == "fsmn_vad" else models.offline

    async def prove(self, models: ModelSet, loaded: LoadedModels) -> None:
        await self.canary.prove(models, tone(3, 5))

    def row(self, role: str) -> dict[str, Any]:
        return next(row for row in self.status.models() if row["role"] == role)

    def check(self, name: str) -> tuple[str, str]:
        checks = self.status.health()["checks"]
        found = next(check for check in checks if check["name"] == name)
        return found["status"], found["reason"]


@pytest_asyncio.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    made = Box(tmp_path)
    write_model(made.shipped, "ears", VAD)
    write_model(made.shipped, "best", ASR)
    write_model(made.shipped, "reader", ASR)
    for lane in made.lanes:
        lane.start()
    yield made
    for lane in made.lanes:
        await lane.close(5)


async def test_before_the_models_are_loaded_the_box_is_starting(box: Box) -> None:
    assert box.status.models() == []
    assert box.check("models")[0] == "starting"
    assert (box.status.can_transcribe(), box.status.ready()) == (False, False)


async def test_a_role_is_shown_with_all_that_names_its_model(box: Box) -> None:
    await box.keeper.load()
    row = box.row("asr_offline")
    sha256 = row["sha256"]
    assert len(sha256) == 64
    assert {key: row[key] for key in ("id", "ref", "family", "variant", "provider", "state")} == {
        "id": "best",
        "ref": f"best@{sha256[:8]}",
        "family": "paraformer",
        "variant": "fp32",
        "provider": "cpu",
        "state": "in use",
    }
    assert (row["pinned"], row["refused"]) == (False, [])
    assert row["choice"]["candidates"][0]["passed"]
    assert any("was chosen" in reason for reason in row["choice"]["reasons"])
    assert box.status.ready()
    assert box.status.health()["status"] == "ok"


async def test_the_parameters_of_the_vad_are_echoed(box: Box) -> None:
    box.vad.parameters = VadParameters(max_end_silence_time=500)  # type: ignore[attr-defined]
    await box.keeper.load()
    parameters = box.row("vad")["parameters"]
    assert (parameters["max_end_silence_time"], parameters["sil_pdf_ids"]) == (500, [0])
    assert set(parameters) == set(Vad.model_fields)
    assert "parameters" not in box.row("asr_offline")


async def test_whether_numbers_are_rewritten_is_said(box: Box) -> None:
    assert box.status.status()["itn"] == {"available": False, "reason": "it is not set up"}
    for problem in ("", "wetext is not installed"):
        rewriter = InverseNormalizer(lambda language: Grammar(str, str, ""))
        rewriter.problem = problem
        box.service.settings = SessionSettings(itn=rewriter)
        shown = {"available": not problem, "reason": problem or None}
        assert box.status.status()["itn"] == shown


async def test_an_unpinned_model_is_said_and_does_not_degrade_the_box(box: Box) -> None:
    await box.keeper.load()
    status, reason = box.check("model_vad")
    assert (status, reason.startswith("ears serves (unpinned")) == ("ok", True)


async def test_a_refused_model_is_told_with_its_level_by_status_and_health(box: Box) -> None:
    box.refused["best"] = FLIPPED
    await box.keeper.load()
    (refused,) = box.row("asr_offline")["refused"]
    assert refused == {
        "id": "best",
        "level": "integrity",
        "code": "integrity",
        "message": FLIPPED.message,
    }
    status, reason = box.check("model_asr_offline")
    assert status == "degraded"
    assert reason.startswith("reader serves in place of a refused model: best: model.onnx: sha256")
    assert "(level: integrity)" in reason
    assert box.status.ready()


async def test_a_role_whose_models_are_all_refused_says_which_and_why(box: Box) -> None:
    box.refused["ears"] = FLIPPED
    await box.keeper.load()
    row = box.row("vad")
    assert (row["id"], row["state"]) == (None, "no usable model")
    assert [refused["id"] for refused in row["refused"]] == ["ears"]
    assert box.check("model_vad")[0] == "failing"
    assert box.check("models")[0] == "failing"
    assert "sha256 is 3f2a" in box.check("models")[1]
    assert box.status.health()["status"] == "failing"
    assert not box.status.can_transcribe()


async def test_a_switch_shows_at_once_and_ends_what_was_told_of_refusals(box: Box) -> None:
    box.refused["best"] = FLIPPED
    await box.keeper.load()
    del box.refused["best"]
    await box.keeper.switch("asr_offline", "best")
    assert (box.row("asr_offline")["id"], box.row("asr_offline")["refused"]) == ("best", [])
    assert box.check("model_asr_offline")[0] == "ok"
    body, _ = box.status.metrics("")
    assert b'model_load_time_seconds{model="best",provider="cpu",variant="fp32"}' in body


async def test_a_model_that_fails_before_it_serves_does_not_make_the_box_unready(box: Box) -> None:
    write_model(box.shipped, "wild", ASR)
    box.breaking = "wild"
    await box.keeper.load()
    with pytest.raises(ModelError, match="the graph broke"):
        await box.keeper.switch("asr_offline", "wild")
    assert box.status.ready()
    assert box.check("canary")[0] == "ok"
    assert box.row("asr_offline")["id"] == "best"


async def test_models_that_fail_while_they_serve_make_the_box_unready(box: Box) -> None:
    await box.keeper.load()
    with pytest.raises(RuntimeError):
        await box.canary.sing(fake_models(fail_on="33333"), tone(3, 5))
    assert not box.status.ready()
    assert box.check("canary") == ("failing", "the canary failed: RuntimeError: the graph broke")


async def test_what_the_last_check_found_degrades_the_box(box: Box) -> None:
    await box.keeper.load()
    assert box.check("model_store")[0] == "ok"
    box.refused["reader"] = FLIPPED
    await box.keeper.verify()
    status, reason = box.check("model_store")
    assert status == "degraded"
    assert "reader@" in reason
    assert FLIPPED.message in reason
    assert box.status.health()["status"] == "degraded"
    assert box.status.ready()
    box.refused.clear()
    await box.keeper.verify()
    assert box.status.health()["status"] == "ok"


async def test_a_model_that_became_slow_is_told_with_how_much(box: Box) -> None:
    await box.keeper.load()
    box.refused["best"] = TrialResult(load_s=0.1, golden_s=0.05, audio_s=1.0, memory_mb=5.0)
    checkups = await box.keeper.verify()
    assert [c.ref.partition("@")[0] for c in checkups if c.slow] == ["best"]
    status, reason = box.check("model_store")
    assert status == "degraded"
    assert "takes 5.0 times as long" in reason
    assert "funasr-agent doctor" in reason


async def test_a_roles_file_that_can_not_be_read_degrades_the_box(box: Box) -> None:
    box.state.mkdir()
    (box.state / "roles.yaml").write_text("vad: {modle: ears}")
    await box.keeper.load()
    status, reason = box.check("model_store")
    assert status == "degraded"
    assert "roles.yaml" in reason
    assert "funasr-agent models use" in reason
    assert box.status.ready()
