"""What a check says of a model, and the file that keeps the last one."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.checkup import CheckFile, LastCheck, ModelCheckup, checkup
from agent.store.choices import Attempt, ProviderChoice
from agent.store.disk import Disk
from agent.store.library import FoundModel
from agent.store.manifest import read_manifest
from agent.store.refs import ModelRef
from agent.store.trial import TrialResult
from tests.model_loading.tiny_models import vad_files, write_model
from tests.unit.store.test_choices import JSON

OLD = TrialResult(golden_s=0.1, audio_s=10.0)
DEAF = TrialResult(code="golden_mismatch", level="function", message="it hears nothing")
NOW = "2026-05-01T12:00:00+00:00"


@pytest.fixture
def found(tmp_path: Path) -> FoundModel:
    folder = write_model(tmp_path, "tiny", vad_files())
    manifest = read_manifest(folder)
    return FoundModel(ModelRef("tiny", manifest.sha8), manifest, folder, True)


def choice_of(result: TrialResult) -> ProviderChoice:
    variant = "fp32" if result.passed else ""
    provider = "cpu" if result.passed else ""
    attempt = Attempt("fp32", "cpu", "", result)
    return ProviderChoice(variant, provider, "", (), (attempt,), {}, NOW)


@pytest.mark.parametrize(
    ("golden_s", "slow"),
    [(0.05, False), (0.1, False), (0.199, False), (0.201, True), (1.0, True)],
)
def test_a_model_is_slow_when_it_takes_twice_as_long(
    found: FoundModel, golden_s: float, slow: bool
) -> None:
    result = replace(OLD, golden_s=golden_s)
    row = checkup(found, True, result, choice_of(OLD))
    assert (row.serves, row.slow, bool(row.problem)) == (True, slow, slow)
    assert (row.recorded, row.real_time_factor) == (0.01, round(golden_s / 10, 5))


def test_how_much_slower_is_told_with_what_to_do(found: FoundModel) -> None:
    row = checkup(found, True, replace(OLD, golden_s=0.35), choice_of(OLD))
    assert row.problem == (
        f"{found.ref} takes 3.5 times as long as when it was installed: look for throttling, "
        "another program, or a worn disk (`funasr-agent doctor`)"
    )


def test_a_difference_of_a_moment_is_not_told(found: FoundModel) -> None:
    """A process that waits for its turn once loses more than a small model takes."""
    old = TrialResult(golden_s=0.0004, audio_s=1.0)
    assert not checkup(found, True, replace(old, golden_s=0.0023), choice_of(old)).slow
    assert checkup(found, True, replace(old, golden_s=0.0025), choice_of(old)).slow


@pytest.mark.parametrize(
    "old",
    [
        TrialResult(),
        TrialResult(golden_s=0.1, audio_s=0.0),
        TrialResult(golden_s=0.0, audio_s=1.0),
        TrialResult(golden_s=1e-7, audio_s=1.0),
        DEAF,
    ],
)
def test_without_a_figure_to_compare_with_no_model_is_slow(
    found: FoundModel, old: TrialResult
) -> None:
    row = checkup(found, True, replace(OLD, golden_s=100.0), choice_of(old))
    assert (row.serves, row.slow, row.problem, row.recorded) == (True, False, "", 0.0)


def test_a_refused_model_is_told_with_its_level(found: FoundModel) -> None:
    row = checkup(found, False, DEAF, choice_of(OLD))
    assert (row.serves, row.level, row.code) == (False, "function", "golden_mismatch")
    assert row.problem == f"{found.ref}: it hears nothing"
    assert (row.role, row.variant, row.provider) == ("vad", "fp32", "cpu")
    assert (row.slow, row.recorded, row.pinned, row.memory_mb) == (False, 0.0, False, 1)


def test_a_model_without_a_choice_has_no_variant(found: FoundModel) -> None:
    row = checkup(found, False, DEAF, None)
    assert (row.variant, row.provider, row.recorded) == ("", "", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> CheckFile:
    return CheckFile(tmp_path / "state" / "check.json", Disk())


def test_the_last_check_is_kept_with_its_problems(file: CheckFile, tmp_path: Path) -> None:
    assert file.read() is None
    rows = [
        ModelCheckup("vad", "good@00000000", True),
        ModelCheckup("vad", "坏@11111111", False, "integrity", "integrity", "is missing"),
        ModelCheckup("vad", "slow", True, real_time_factor=0.3, recorded=0.1, slow=True),
    ]
    written = file.write(NOW, rows)
    assert file.read() == written
    assert written.time == NOW
    assert written.problems[0] == "坏@11111111: is missing"
    assert written.problems[1].startswith("slow takes 3.0 times as long")
    tree = json.loads((tmp_path / "state" / "check.json").read_bytes())
    assert [row["ref"] for row in tree["models"]] == ["good@00000000", "坏@11111111", "slow"]


def test_a_check_without_problems_replaces_one_with_some(file: CheckFile) -> None:
    file.write(NOW, [ModelCheckup("vad", "bad", False, message="is missing")])
    file.write("2026-05-08T12:00:00+00:00", [ModelCheckup("vad", "bad", True)])
    assert file.read() == LastCheck("2026-05-08T12:00:00+00:00", ())


def read(data: bytes) -> LastCheck | None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "check.json").write_bytes(data)
        return CheckFile(Path(folder) / "check.json", Disk()).read()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 200_000, b'{"time": "today"}'])
def test_a_damaged_file_is_no_check(data: bytes) -> None:
    assert read(data) is None


@settings(max_examples=100, deadline=None)
@given(tree=JSON | st.fixed_dictionaries({"time": JSON, "problems": JSON}))
def test_no_tree_raises(tree: Any) -> None:
    found = read(json.dumps(tree).encode())
    assert found is None or all(isinstance(problem, str) for problem in found.problems)
