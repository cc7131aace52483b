"""The models' lines: who serves, who was refused, and what a check leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.config import Config, Models
from agent.doctor.box import Box, Outcome
from agent.doctor.models import check_in_child, check_models
from agent.doctor.report import Check
from agent.errors import ModelError
from agent.store.checkup import ModelCheckup
from tests.unit.doctor.boxes import answering, box_of, line


def row(role: str, ref: str, serves: bool, *words: str, **more: object) -> ModelCheckup:
    """A checked model, pinned unless the test says otherwise."""
    return ModelCheckup(role, ref, serves, *words, **{"pinned": True, **more})  # type: ignore[arg-type]


VAD = row("vad", "builtin-vad@1", True, variant="fp32", provider="cpu")
ONLINE = row("asr_online", "builtin-online@1", True, variant="int8", provider="cpu")
OFFLINE = row("asr_offline", "builtin-offline@1", True, variant="int8", provider="cpu")


def refused(role: str, ref: str, level: str = "integrity") -> ModelCheckup:
    return row(role, ref, False, level, level, "model.onnx: sha256 is 1, manifest says 2")


def by_name(rows: list[ModelCheckup], config: Config | None = None) -> dict[str, Check]:
    return {check.name: check for check in check_models(config or Config(), lambda: rows)}


def test_each_role_says_what_serves_it() -> None:
    found = by_name([VAD, ONLINE, OFFLINE])
    assert list(found) == ["model vad", "model asr_online", "model asr_offline"]
    assert {check.status.value for check in found.values()} == {"ok"}
    assert found["model vad"].seen == "builtin-vad@1 (fp32, cpu) serves"


def test_a_refused_model_with_a_fallback_is_a_warning_that_names_both() -> None:
    found = by_name([VAD, ONLINE, refused("asr_offline", "large"), OFFLINE])
    check = found["model asr_offline"]
    assert check.status.value == "warning"
    assert "large is refused at level integrity: model.onnx: sha256 is 1" in check.seen
    assert "[integrity]" in check.seen
    assert "builtin-offline@1 (int8, cpu) serves" in check.seen
    assert "models.asr_offline" in check.advice


def test_without_a_vad_nothing_works() -> None:
    check = by_name([refused("vad", "v"), ONLINE, OFFLINE])["model vad"]
    assert (check.status.value, "nothing serves: v is refused" in check.seen) == ("failure", True)
    assert by_name([ONLINE, OFFLINE])["model vad"].status.value == "failure"


def test_one_recogniser_is_enough_and_none_is_a_failure() -> None:
    one = by_name([VAD, refused("asr_online", "o"), OFFLINE])
    assert one["model asr_online"].status.value == "warning"
    assert "the other recogniser is alone" in one["model asr_online"].seen
    none = by_name([VAD, refused("asr_online", "o"), refused("asr_offline", "f", "function")])
    assert none["model asr_online"].status.value == "failure"
    assert "at level function" in none["model asr_offline"].seen
    assert none["model asr_offline"].status.value == "failure"


def test_punctuation_is_optional_and_a_role_that_is_switched_off_has_no_line() -> None:
    config = Config(models=Models(asr_online=[], punctuation=["p", "none"]))
    found = by_name([VAD, OFFLINE, refused("punctuation", "p")], config)
    assert "model asr_online" not in found
    assert found["model punctuation"].status.value == "warning"
    assert "no punctuation: p is refused" in found["model punctuation"].seen


def test_unpinned_and_slow_models_are_told() -> None:
    unpinned = row("vad", "mine@1", True, pinned=False)
    assert "unpinned" in by_name([unpinned, ONLINE])["model vad"].seen
    slow = row("vad", "v@1", True, slow=True, real_time_factor=0.4, recorded=0.1)
    check = by_name([slow, ONLINE])["model vad"]
    assert check.status.value == "warning"
    assert "takes 4.0 times as long" in check.seen


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(-11), "verifying the models kills the process (SIGSEGV)"),
        (Outcome(None, timed_out=True), "verifying the models does not end"),
        (Outcome(1, stderr="Traceback\nModuleNotFoundError: No module named 'numpy'\n"), "numpy"),
        (Outcome(0, stdout="error " + json.dumps("key.pem: no such file")), "key.pem"),
    ],
)
def test_a_check_that_dies_in_its_process_is_a_failure(
    tmp_path: Path, outcome: Outcome, words: str
) -> None:
    verify = check_in_child(answering(box_of(tmp_path), {"verify_models": outcome}))
    with pytest.raises(ModelError):
        verify(Config())
    status, seen, advice = line(check_models(Config(), lambda: verify(Config())))
    assert status == "failure"
    assert words in seen
    assert advice


def test_real_models_are_verified_and_the_state_is_left_alone(root: Path, tmp_path: Path) -> None:
    models, state = tmp_path / "models", tmp_path / "state"
    shutil.copytree(root / "models", models)
    graph = models / "builtin-online" / "model_quant.onnx"
    data = bytearray(graph.read_bytes())
    data[1000] ^= 1
    graph.write_bytes(data)
    config = Config(models=Models(dir=models), state_dir=state)
    found = by_name(list(check_in_child(Box())(config)), config)
    assert found["model vad"].status.value == "ok"
    assert found["model asr_offline"].status.value == "ok"
    assert found["model asr_online"].status.value == "warning"
    assert "model_quant.onnx: sha256 is" in found["model asr_online"].seen
    assert not state.exists()


def test_an_unreadable_key_of_trust_is_told(tmp_path: Path) -> None:
    config = Config(models=Models(trusted_keys=[str(tmp_path / "gone.pem")]), state_dir=tmp_path)
    status, seen, _ = line(check_models(config, lambda: check_in_child(Box())(config)))
    assert (status, "gone.pem" in seen) == ("failure", True)
