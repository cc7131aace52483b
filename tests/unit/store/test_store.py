"""The store as a whole: order of models, choices with a way back, removal, checks."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.base import EngineSettings
from agent.errors import (
    AgentError,
    BundleError,
    CompatibilityError,
    ModelError,
    ModelInUse,
    UnknownModel,
)
from agent.store.bundle import BundleSource, bundle_stream
from agent.store.disk import Disk
from agent.store.listing import model_rows
from agent.store.manifest import read_manifest
from agent.store.refs import ModelRef, parse_ref
from agent.store.store import ModelStore, StoreSettings
from agent.store.trial import TrialRequest, TrialResult
from agent.store.trust import generate_key
from tests.fake_store import PASSED, FakeTrials, fake_store
from tests.model_loading.tiny_models import vad_files, write_model
from tests.unit.store.test_library import FILES, append, install_by_hand
from tests.unit.store.test_roles import QuickDisk

DEAF = TrialResult(code="golden_mismatch", level="function", message="it hears nothing")
CRASHED = TrialResult(code="runtime_crash", level="compatibility", message="it ended by signal 11")
LISTS = {"vad": ["first", "second"], "asr_online": [], "asr_offline": [], "punctuation": ["none"]}

Verdict = Callable[[TrialRequest], TrialResult]


class Box:
    """A box with the models `first` and `second`, as the store sees it after each start."""

    def __init__(self, folder: Path) -> None:
        self.shipped, self.state = folder / "shipped", folder / "state"
        self.trials = FakeTrials()
        self.first, self.second = (
            self.ref(write_model(self.shipped, name, FILES)) for name in ("first", "second")
        )

    def ref(self, folder: Path) -> str:
        return f"{folder.name.partition('@')[0]}@{read_manifest(folder).sha8}"

    def store(self, lists: dict[str, list[str]] | None = None, **more: Any) -> ModelStore:
        return fake_store(self.shipped, self.state, lists or LISTS, trials=self.trials, **more)

    def install(self, model_id: str, **more: Any) -> str:
        return install_by_hand(self.state, model_id, **more).name

    def embed(self, root: Path, model_id: str = "builtin-vad") -> str:
        folder = shutil.copytree(root / "models" / model_id, self.shipped / model_id)
        return self.ref(Path(folder))

    def refuse(self, result: TrialResult, *names: str) -> None:
        """Trials of these models end so from now on."""

        def verdict(request: TrialRequest) -> TrialResult:
            folder = Path(request.folder)
            return result if folder.name.partition("@")[0] in names else PASSED

        self.trials.verdict = verdict

    def serves(self, store: ModelStore | None = None) -> str:
        loaded = (store or self.store()).load_all()
        return str(loaded.roles["vad"].ref) if "vad" in loaded.roles else ""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# Loading.


@pytest.mark.parametrize("low_memory", [False, True])
def test_roles_are_loaded_side_by_side_unless_memory_is_to_be_low(
    box: Box, low_memory: bool
) -> None:
    write_model(box.shipped, "words", {**FILES, "tokens.json": b"[]"})
    most = 1 if low_memory else min(2, len(os.sched_getaffinity(0)))
    meeting, at_work, seen = threading.Barrier(most, timeout=30), [0], [0]

    def load(family: str, files: Any, settings: Any) -> object:
        at_work[0] += 1
        seen[0] = max(seen[0], at_work[0])
        meeting.wait()
        time.sleep(0.05)
        at_work[0] -= 1
        return object()

    lists = {**LISTS, "vad": ["first"], "asr_offline": ["words"]}
    store = box.store(lists, load_model=load, low_memory=low_memory)
    assert set(store.load_all().roles) == {"vad", "asr_offline", "punctuation"}
    assert seen == [most]


# The order of a role.


def test_the_embedded_model_is_the_last_of_its_role_where_it_is_here(box: Box, root: Path) -> None:
    assert box.store().order("vad") == ["first", "second"]
    box.embed(root)
    assert box.store().order("vad") == ["first", "second", "builtin-vad"]
    assert box.store().order("punctuation") == ["none"]


def test_an_embedded_model_that_the_list_names_keeps_its_place(box: Box, root: Path) -> None:
    box.embed(root)
    order = box.store({"vad": ["builtin-vad", "first"]}).order("vad")
    assert order == ["builtin-vad", "first"]


def test_a_role_that_is_switched_off_has_no_embedded_model(box: Box, root: Path) -> None:
    box.embed(root)
    assert box.store({"vad": [], "asr_offline": []}).order("vad") == []


def test_a_manifest_in_the_shipped_folder_itself_is_no_model(box: Box) -> None:
    shutil.copy(box.shipped / "first" / "manifest.yaml", box.shipped)
    assert box.store().order("punctuation") == ["none"]


def test_what_was_chosen_and_what_served_before_come_first(box: Box) -> None:
    third = box.install("third")
    store = box.store()
    store.choose("vad", "third")
    assert store.order("vad") == [third, box.first, "first", "second"]
    assert box.store().order("vad") == store.order("vad")


def test_a_damaged_roles_file_is_told_and_the_list_serves(box: Box) -> None:
    box.state.mkdir()
    (box.state / "roles.yaml").write_text("vad: {model")
    assert box.store().order("vad") == ["first", "second"]
    assert "roles.yaml: is not valid YAML" in box.store().roles_problem()
    assert box.serves() == box.first


# Loading along it.


def test_a_choice_whose_models_are_gone_falls_back_step_by_step(box: Box, root: Path) -> None:
    embedded = box.embed(root)
    names = [box.install("old"), box.install("new")]
    store = box.store()
    for name in names:
        store.choose("vad", name)
    steps = [names[1], names[0], box.first, box.second, embedded, ""]
    for step in steps:
        assert box.serves() == step
        if step:
            folder = box.state / "models" / step
            shutil.rmtree(folder if folder.exists() else box.shipped / step.partition("@")[0])
    failure = box.store().load_all().failures["vad"]
    assert [refusal.code for refusal in failure.refusals] == ["unknown_model"] * 4


def test_a_model_that_is_refused_is_recorded_and_the_next_serves(box: Box) -> None:
    box.refuse(DEAF, "first")
    loaded = box.store().load_all()
    assert loaded.roles["vad"].id == "second"
    (refusal,) = loaded.refusals["vad"]
    assert (refusal.id, refusal.code, refusal.level) == ("first", "golden_mismatch", "function")
    assert loaded.roles["punctuation"].model is None


def test_a_model_is_loaded_as_it_was_proven(box: Box) -> None:
    seen: list[EngineSettings] = []
    store = box.store(load_model=lambda family, files, engine: seen.append(engine))
    loaded = store.load_one("vad", "second")
    assert (loaded.provider, [s.provider for s in seen]) == ("cpu", ["cpu"])
    assert loaded.chosen is not None
    assert loaded.chosen.choice == store.proof(store.library.find(parse_ref("second")))
    assert loaded.chosen.derived is None


@pytest.mark.parametrize(
    ("name", "code", "level"),
    [
        ("second", "golden_mismatch", "function"),
        ("absent", "unknown_model", ""),
        ("../first", "unknown_model", ""),
    ],
)
def test_one_model_that_is_refused_is_an_error_of_its_kind(
    box: Box, name: str, code: str, level: str
) -> None:
    box.refuse(DEAF, "second")
    with pytest.raises(ModelError) as caught:
        box.store().load_one("vad", name)
    assert (caught.value.code, caught.value.level) == (code, level)
    assert caught.value.message.startswith(f"{name}: ")
    assert caught.value.message.endswith("; vad keeps its model")


def test_a_key_that_can_not_be_read_is_told_at_once(box: Box) -> None:
    with pytest.raises(ModelError, match=r"absent\.pub: can't be read"):
        box.store(trusted_keys=["/absent.pub"])


def test_without_a_gpu_the_proof_says_so(box: Box) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    variants = [
        {"name": "fp32", "provider": "cuda", "graphs": {"model": "model.onnx"}},
        {"name": "int8", "provider": "cpu", "graphs": {"model": "model.onnx"}},
    ]
    box.install("both", variants=variants)
    choice = box.store().prove_for("vad", "both")
    assert choice.variant == "int8"
    assert "CUDA is not used: there is no NVIDIA GPU" in choice.reasons


# Choosing.


def test_the_first_choice_remembers_what_the_list_gave(box: Box) -> None:
    store = box.store()
    assert str(store.choose("vad", "second")) == box.second
    assert store.chosen("vad") == (box.second, box.first)
    assert store.previous("vad") == box.first


def test_a_model_of_the_list_that_is_not_here_did_not_serve_before(box: Box) -> None:
    store = box.store({"vad": ["absent", "second"]})
    store.choose("vad", "first")
    assert store.chosen("vad") == (box.first, box.second)


def test_choosing_what_serves_already_keeps_the_way_back(box: Box) -> None:
    store = box.store()
    store.choose("vad", "second")
    for serving in (None, parse_ref(box.second)):
        store.choose("vad", "second", serving)
        assert store.chosen("vad") == (box.second, box.first)


def test_the_first_choice_of_what_serves_has_no_way_back(box: Box) -> None:
    store = box.store()
    store.choose("vad", "first", parse_ref(box.first))
    assert store.chosen("vad") == (box.first, "")
    with pytest.raises(UnknownModel, match="vad has no previous model"):
        store.previous("vad")


def test_what_really_served_is_the_previous_one_and_not_what_was_refused(box: Box) -> None:
    third, fourth = box.install("third"), box.install("fourth")
    store = box.store()
    store.choose("vad", third)
    store.choose("vad", fourth, serving=parse_ref(box.second))
    assert store.chosen("vad") == (fourth, box.second)


def test_choosing_the_one_that_took_over_keeps_a_way_back_to_another_one(box: Box) -> None:
    """The chosen model was refused at the start and the one before it serves: no model is its own
    previous one."""
    third = box.install("third")
    store = box.store()
    store.choose("vad", third)
    assert store.chosen("vad") == (third, box.first)
    store.choose("vad", "first", serving=parse_ref(box.first))
    assert store.chosen("vad") == (box.first, third)


def test_punctuation_can_be_without_a_model(box: Box) -> None:
    store = box.store()
    assert store.choose("punctuation", "none") == ModelRef("none")
    assert store.chosen("punctuation") == ("none", "")
    assert store.load_all().roles["punctuation"].model is None


def test_a_model_that_is_not_here_is_not_chosen(box: Box) -> None:
    with pytest.raises(UnknownModel):
        box.store().choose("vad", "absent")
    assert not (box.state / "roles.yaml").exists()


STEPS = st.lists(st.sampled_from(["first", "second", "third", "rollback"]), max_size=8)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, told=st.booleans())
def test_a_rollback_goes_back_to_what_served_before(steps: list[str], told: bool) -> None:
    """`told`: the daemon knows what serves, the command without one does not."""
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        exact = {"first": box.first, "second": box.second, "third": box.install("third")}
        now, before = exact["first"], ""
        for step in steps:
            store = box.store(disk=QuickDisk())
            name = before if step == "rollback" else exact[step]
            if not name:
                with pytest.raises(UnknownModel):
                    store.previous("vad")
                continue
            if step == "rollback":
                assert store.previous("vad") == name
            store.choose("vad", name, parse_ref(now) if told else None)
            now, before = (name, now) if name != now else (now, before)
            assert box.store().chosen("vad") == (now, before)
            assert box.serves(store) == now


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["", "a", "b", "c"])),
        min_size=1,
        max_size=6,
    )
)
def test_no_model_is_ever_its_own_previous_one(steps: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        exact = {name: box.install(name) for name in "abc"}
        store = box.store(disk=QuickDisk())
        for name, serving in steps:
            store.choose("vad", name, parse_ref(exact[serving]) if serving else None)
            model, previous = store.chosen("vad")
            assert model == exact[name]
            assert previous != model
            if serving not in ("", name):
                assert previous == exact[serving]


# Proving and installing.


def test_a_model_of_another_task_is_refused_for_a_role(box: Box) -> None:
    with pytest.raises(CompatibilityError, match="its task is vad, it can't serve as asr_offline"):
        box.store().prove_for("asr_offline", "first")
    assert box.trials.asked == []


def test_a_model_is_proven_with_the_settings_of_its_role(box: Box) -> None:
    engine = {"vad": EngineSettings(threads=2, vad={"max_end_silence_time": 500})}
    where = StoreSettings(box.shipped, box.state, LISTS, engine)  # type: ignore[arg-type]
    ModelStore(where, open_trials=box.trials).prove_for("vad", "first")
    (request,) = box.trials.asked
    assert (request.threads, request.vad) == (2, {"max_end_silence_time": 500})
    assert request.folder == str(box.shipped / "first")


def bundled(folder: Path, model_id: str, **more: Any) -> Any:
    source = write_model(folder / "source", model_id, vad_files(), **more)
    return bundle_stream([BundleSource(model_id, source)])


def test_an_installed_model_was_proven_first(box: Box, tmp_path: Path) -> None:
    store = box.store()
    (installed,) = store.install(bundled(tmp_path, "lab"))
    (request,) = box.trials.asked
    assert Path(request.folder).parent.name.startswith(".staging-")
    assert request.role == "vad"
    found = store.library.find(parse_ref("lab"))
    assert found.folder == installed.folder
    assert store.proof(found) is not None
    store.load_one("vad", "lab")
    assert len(box.trials.asked) == 1


def test_a_bundle_that_is_not_proven_leaves_nothing(box: Box, tmp_path: Path) -> None:
    box.refuse(DEAF, "lab")
    with pytest.raises(ModelError, match=r"^lab is refused: it hears nothing$") as caught:
        box.store().install(bundled(tmp_path, "lab"))
    assert (caught.value.code, caught.value.level) == ("golden_mismatch", "function")
    assert list((box.state / "models").iterdir()) == []
    assert list(box.state.rglob("*.json")) == []


def test_of_a_bundle_with_one_bad_model_no_proof_is_kept(box: Box, tmp_path: Path) -> None:
    sources = [write_model(tmp_path / "source", name, vad_files()) for name in ("good", "lab")]
    box.refuse(DEAF, "lab")
    with pytest.raises(ModelError, match="lab is refused"):
        box.store().install(bundle_stream([BundleSource(f.name, f) for f in sources]))
    assert len(box.trials.asked) == 2
    assert list(box.state.rglob("*.json")) == []


def test_a_bundle_whose_model_crashed_can_be_tried_again(box: Box, tmp_path: Path) -> None:
    """`models verify` has nothing to try again where nothing was installed."""
    box.refuse(CRASHED, "lab")
    source = write_model(tmp_path / "source", "lab", vad_files())
    for _ in range(2):
        with pytest.raises(ModelError, match=r"^lab is refused: it ended by signal 11$"):
            box.store().install(bundle_stream([BundleSource("lab", source)]))
    assert len(box.trials.asked) == 2
    box.refuse(PASSED)
    box.store().install(bundle_stream([BundleSource("lab", source)]))
    assert box.store().load_one("vad", "lab").id == "lab"


@pytest.mark.parametrize("model_id", ["builtin-vad", "builtin-other", "none"])
def test_the_agents_own_names_can_not_be_installed(box: Box, tmp_path: Path, model_id: str) -> None:
    with pytest.raises(BundleError, match="is the agent's own") as caught:
        box.store().install(bundled(tmp_path, model_id))
    assert model_id in caught.value.message
    assert "`models install FOLDER --id ID`" in caught.value.message
    assert box.trials.asked == []
    assert list((box.state / "models").iterdir()) == []


# Removing.


def test_a_removed_model_is_gone_with_all_that_was_kept_of_it(box: Box) -> None:
    name, other = box.install("lab"), box.install("other")
    store = box.store()
    for model in ("lab", "other"):
        store.prove_for("vad", model)
        Disk().make_folder(box.state / "derived" / box.ref(box.state / "models" / name))
    Disk().make_folder(box.state / "derived" / other)
    assert str(store.remove("lab")) == name
    left = {str(path.relative_to(box.state)) for path in box.state.rglob("*@*")}
    assert left == {f"models/{other}", f"choices/{other}.json", f"derived/{other}"}


def test_the_model_of_a_role_is_not_removed(box: Box) -> None:
    name = box.install("lab")
    store = box.store()
    store.choose("vad", "lab")
    for ref in ("lab", name):
        with pytest.raises(ModelInUse, match="is the model of vad; choose another first") as caught:
            store.remove(ref)
    assert "`funasr-agent models use vad=ID`" in caught.value.message
    assert box.serves() == name


def test_the_model_of_a_role_that_was_named_by_hand_is_not_removed(box: Box) -> None:
    box.install("lab")
    (box.state / "roles.yaml").write_text("vad: {model: lab}\n")
    with pytest.raises(ModelInUse):
        box.store().remove("lab")


def test_a_previous_model_that_is_removed_is_no_longer_the_way_back(box: Box) -> None:
    name = box.install("lab")
    store = box.store()
    store.choose("vad", "lab")
    store.choose("vad", "second")
    assert store.previous("vad") == name
    store.remove("lab")
    assert box.store().chosen("vad") == (box.second, "")


def test_the_embedded_models_are_not_removed(box: Box, root: Path) -> None:
    box.embed(root)
    with pytest.raises(UnknownModel, match="comes with the agent and stays, to serve when nothing"):
        box.store().remove("builtin-vad")
    assert (box.shipped / "builtin-vad" / "manifest.yaml").exists()


@pytest.mark.parametrize("name", ["first", "absent", "lab@00000000"])
def test_what_is_not_installed_is_not_removed(box: Box, name: str) -> None:
    box.install("lab")
    with pytest.raises(UnknownModel, match=f"{name} is not installed"):
        box.store().remove(name)
    assert (box.shipped / "first").exists()


def test_of_two_manifests_of_an_id_one_must_be_named(box: Box) -> None:
    names = sorted([box.install("lab"), box.install("lab", license="other")])
    with pytest.raises(UnknownModel) as caught:
        box.store().remove("lab")
    assert caught.value.message == (f"lab is installed 2 times: name one of {names[0]}, {names[1]}")
    box.store().remove(names[0])
    assert box.store().library.find(parse_ref("lab")).folder.name == names[1]


def test_a_damaged_model_can_be_removed(box: Box) -> None:
    name = box.install("lab")
    append(box.state / "models" / name)
    assert str(box.store().remove("lab")) == name
    assert not (box.state / "models" / name).exists()


# Checking.


def test_a_check_of_all_is_recorded_and_told_one_by_one(box: Box) -> None:
    name = box.install("lab")
    told: list[str] = []
    store = box.store()
    assert store.last_check() is None
    rows = store.verify(told=lambda row: told.append(row.ref))
    assert [row.ref for row in rows] == told == [name, box.first, box.second]
    assert all(row.serves and not row.problem for row in rows)
    last = box.store().last_check()
    assert last is not None
    assert last[1] == ()
    assert last[0].endswith("+00:00")
    kept = json.loads((box.state / "check.json").read_bytes())
    assert [row["ref"] for row in kept["models"]] == told


def test_a_model_that_became_slow_is_told(box: Box) -> None:
    store = box.store()
    store.verify()
    box.refuse(dataclasses.replace(PASSED, golden_s=0.05), "second")
    slow = [row for row in store.verify() if row.slow]
    assert [(row.ref, row.serves) for row in slow] == [(box.second, True)]
    assert (slow[0].recorded, slow[0].real_time_factor) == (0.01, 0.05)
    last = store.last_check()
    assert last is not None
    assert last[1] == (slow[0].problem,)
    assert "takes 5.0 times as long as when it was installed" in slow[0].problem
    box.refuse(PASSED)
    store.verify()
    again = store.last_check()
    assert again is not None
    assert again[1] == ()


def test_damaged_models_are_told_with_their_level(box: Box) -> None:
    name, changed = box.install("lab"), box.install("changed")
    store = box.store()
    store.verify()
    append(box.state / "models" / changed)
    missing = TrialResult(code="integrity", level="integrity", message="model.onnx: is missing")
    box.refuse(missing, "lab")
    bad = [(row.ref, row.level, row.code) for row in store.verify() if not row.serves]
    assert bad == [(changed, "integrity", "integrity"), (name, "integrity", "integrity")]
    last = store.last_check()
    assert last is not None
    assert last[1][0].startswith(f"{changed}: {changed}/manifest.yaml: sha256 is")
    assert last[1][1] == f"{name}: model.onnx: is missing"


def test_a_check_of_one_model_does_not_stand_for_all(box: Box) -> None:
    store = box.store()
    store.verify()
    before = (box.state / "check.json").read_bytes()
    box.refuse(DEAF, "first")
    (row,) = store.verify("first")
    assert (row.ref, row.serves) == (box.first, False)
    assert (box.state / "check.json").read_bytes() == before
    with pytest.raises(UnknownModel):
        store.verify("absent")


def test_a_check_that_was_given_up_is_not_recorded(box: Box) -> None:
    store = box.store()
    store.verify()
    before = store.last_check()
    box.refuse(TrialResult(code="aborted", message="the agent is stopping"), "second")
    assert [row.serves for row in store.verify()] == [True, False]
    assert store.last_check() == before


def test_a_first_check_proves_and_later_ones_look_at_the_same_variant(box: Box) -> None:
    variants = [
        {"name": name, "provider": "cpu", "graphs": {"model": "model.onnx"}} for name in ("a", "b")
    ]
    box.install("lab", variants=variants)
    box.trials.verdict = lambda request: DEAF if request.variant == "a" else PASSED
    store = box.store()
    assert store.verify("lab")[0].variant == "b"
    store.verify("lab")
    assert [request.variant for request in box.trials.asked] == ["a", "b", "b"]
    assert store.load_one("vad", "lab").chosen is not None
    assert len(box.trials.asked) == 3


def test_a_model_that_crashes_in_a_check_is_tried_in_a_child_before_it_is_loaded_again(
    box: Box,
) -> None:
    """What was proven once would be loaded by the agent itself, and end it."""
    store = box.store()
    assert box.serves(store) == box.first
    box.refuse(CRASHED, "first")
    (row,) = store.verify("first")
    assert row.code == "runtime_crash"
    assert box.serves() == box.second
    assert box.serves() == box.second
    box.refuse(PASSED)
    assert box.serves() == box.second
    assert store.verify("first")[0].serves
    assert box.serves() == box.first


def test_a_model_that_can_not_run_here_is_told_without_a_trial(box: Box) -> None:
    box.install("future", requires={"onnxruntime": ">=99", "memory_mb": 1})
    (row,) = box.store().verify("future")
    assert (row.serves, row.level) == (False, "compatibility")
    assert ">=99" in row.message
    assert box.trials.asked == []


def test_a_state_that_can_not_be_written_is_told_in_words(box: Box) -> None:
    class ReadOnly(Disk):
        def make_folder(self, folder: Path, mode: int = 0o755) -> None:
            raise OSError(errno.EROFS, "Read-only file system", str(folder))

    store = box.store(disk=ReadOnly())
    assert box.serves(store) == box.first
    for change in (store.verify, lambda: store.choose("vad", "second")):
        with pytest.raises(AgentError, match="Read-only file system"):
            change()
    assert not box.state.exists()


# The roles as the doctor looks at them.


def test_a_role_is_looked_at_up_to_the_model_that_serves(box: Box, root: Path) -> None:
    embedded = box.embed(root)
    third = box.install("third")
    store = box.store({"vad": ["absent", "third", "first", "second"], "punctuation": ["none"]})
    box.refuse(DEAF, "third")
    rows = store.check_roles()
    assert [(row.role, row.ref, row.serves) for row in rows] == [
        ("vad", "absent", False),
        ("vad", third, False),
        ("vad", box.first, True),
    ]
    box.refuse(DEAF, "third", "first", "second")
    rows = store.check_roles()
    assert [row.ref for row in rows] == ["absent", third, box.first, box.second, embedded]
    assert [row.serves for row in rows] == [False] * 4 + [True]


def test_looking_at_roles_keeps_nothing(box: Box) -> None:
    box.store().check_roles()
    box.refuse(CRASHED, "first", "second")
    box.store().check_roles()
    assert not box.state.exists()


def test_a_model_of_another_task_in_a_list_is_told(box: Box) -> None:
    rows = box.store({"vad": ["first"], "asr_offline": ["second"]}).check_roles()
    assert [(row.role, row.serves) for row in rows] == [("vad", True), ("asr_offline", False)]
    assert "its task is vad" in rows[1].message


# Rows.


def test_the_rows_of_a_box_say_what_each_model_is_for(box: Box, root: Path) -> None:
    embedded = box.embed(root)
    name, changed = box.install("lab"), box.install("changed")
    append(box.state / "models" / changed)
    store = box.store()
    store.prove_for("vad", "lab")
    store.choose("vad", "second", parse_ref(box.first))
    rows = {row["ref"]: row for row in model_rows(store, {box.second: "vad"})}
    assert json.loads(json.dumps(rows)) == rows
    assert list(rows) == [changed, name, embedded, box.first, box.second]
    assert {ref: row["state"] for ref, row in rows.items() if row["state"] != "present"} == {
        changed: "refused"
    }
    assert (rows[changed]["level"], rows[changed]["id"]) == ("integrity", "changed")
    assert "sha256 is" in rows[changed]["reason"]
    told = {
        ref: (row["serves"], row["chosen_for"], row["previous_of"], row["installed"])
        for ref, row in rows.items()
        if ref != changed
    }
    assert told == {
        name: (None, None, None, True),
        embedded: (None, None, None, False),
        box.first: (None, None, "vad", False),
        box.second: ("vad", "vad", None, False),
    }
    assert rows[name]["proof"]["provider"] == "cpu"
    assert rows[box.first]["proof"] is None
    assert (rows[embedded]["pinned"], rows[name]["pinned"]) == (True, False)
    assert rows[embedded]["size_mb"] > 1
    assert rows[embedded]["sha256"].startswith(embedded.partition("@")[2])


def test_with_trusted_keys_an_unsigned_model_is_a_refused_row(box: Box, tmp_path: Path) -> None:
    generate_key(tmp_path / "own.key", tmp_path / "own.pub")
    store = box.store(trusted_keys=[str(tmp_path / "own.pub")])
    assert {row["code"] for row in model_rows(store, {})} == {"signature"}
    assert box.serves(store) == ""
