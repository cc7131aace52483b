"""Which variant runs on which provider: tried in order, proven, timed, and remembered."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.engine.base import EngineSettings, GpuSettings
from agent.errors import AgentError, CompatibilityError, GoldenMismatch
from agent.store.candidates import DERIVE_SIZES
from agent.store.choices import ChoiceBook, ProviderChoice
from agent.store.derive import derivation_named, derive_variant
from agent.store.disk import Disk
from agent.store.library import FoundModel
from agent.store.manifest import read_manifest
from agent.store.providers import Chooser, Gpu
from agent.store.refs import ModelRef
from agent.store.roles import Role
from agent.store.trial import TrialRequest, TrialResult, refusal
from tests.fake_store import PASSED, FakeTrials
from tests.model_loading.graphs import large_paraformer
from tests.model_loading.tiny_models import asr_files, write_model

CPU_ONLY = [("int8", "cpu")]
BOTH = [("fp32", "cuda"), ("fp16", "cuda"), ("int8", "cpu")]
BOX = {"agent": "1", "onnxruntime": "onnxruntime 1.20", "cpu": "slow", "gpu": ""}
DEAF = TrialResult(code="golden_mismatch", level="function", message="it hears nothing")
CRASHED = TrialResult(code="runtime_crash", level="compatibility", message="it ended by signal 11")
ON_CPU = ("s8-from-u8", "optimised")
ANY_SIZE = range(1 << 30)
NO_GPU = Gpu(False, "there is no NVIDIA GPU")
GPU = Gpu(True, "")

Verdict = Callable[[TrialRequest], TrialResult]
MakeModel = Callable[..., FoundModel]


class ReadOnlyDisk(Disk):
    def make_folder(self, folder: Path, mode: int = 0o755) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def remove(self, path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")


class DerivingTrials(FakeTrials):
    """Really derives; those derivations named in `refused` fail."""

    def __init__(self, *args: Any, refused: Mapping[str, TrialResult] | None = None) -> None:
        super().__init__(*args)
        self.refused = refused or {}

    def derive(self, request: Mapping[str, str], *, timeout_s: float) -> TrialResult:
        self.derived.append(request)
        folder, name = Path(request["folder"]), request["derivation"]
        if name in self.refused:
            return self.refused[name]
        manifest = read_manifest(folder)
        assert manifest.sha256 == request["manifest_sha256"]
        variant = next(v for v in manifest.variants if v.name == request["variant"])
        target = Path(request["target"])
        try:
            derive_variant(manifest, folder, variant, derivation_named(name), target, Disk())
        except CompatibilityError as error:
            return refusal(error)
        return TrialResult(message="twice as fast" if request["derivation"] in ON_CPU else "")


def by(table: Mapping[str, TrialResult | float]) -> Verdict:
    """`provider/derivation or variant`, or its head -> the result, or the seconds of a success."""

    def verdict(request: TrialRequest) -> TrialResult:
        name = f"{request.provider}/{Path(request.derived).name or request.variant}"
        found = next((table[key] for key in (name, request.provider) if key in table), PASSED)
        if isinstance(found, TrialResult):
            return found
        return dataclasses.replace(PASSED, golden_s=found)

    return verdict


@pytest.fixture
def make(tmp_path: Path) -> MakeModel:
    def make(variants: list[tuple[str, str]], **more: Any) -> FoundModel:
        listed = [
            {"name": n, "provider": p, "graphs": {"model": "model.onnx"}} for n, p in variants
        ]
        folder = write_model(tmp_path / "models", "tiny", asr_files(), variants=listed, **more)
        manifest = read_manifest(folder)
        return FoundModel(ModelRef("tiny", manifest.sha8), manifest, folder, True)

    return make


class Box:
    """A chooser over real folders, remade at will as after a restart."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.asked_gpu = 0

    def chooser(
        self,
        *,
        provider: str = "auto",
        gpu: Gpu = NO_GPU,
        box: Mapping[str, str] = BOX,
        disk: Disk | None = None,
        day: int = 1,
        derive_sizes: range = DERIVE_SIZES,
    ) -> Chooser:
        def looked() -> Gpu:
            self.asked_gpu += 1
            return gpu

        return Chooser(
            ChoiceBook(self.state / "choices", disk or Disk()),
            self.state / "derived",
            disk or Disk(),
            provider=provider,
            fingerprint=box,
            gpu=looked,
            now=lambda: datetime(2026, 5, day, 12, 0, 0, 999, timezone.utc),
            derive_sizes=derive_sizes,
        )

    def choose(
        self, found: FoundModel, trials: FakeTrials, *, role: Role = "asr_offline", **more: Any
    ) -> ProviderChoice:
        how = {key: more.pop(key) for key in ("fresh", "keep") if key in more}
        return self.chooser(**more).choose(role, found, EngineSettings(), trials, **how)

    def kept(self) -> list[Path]:
        return [path for path in self.state.rglob("*") if path.is_file()]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "state")


def names(trials: FakeTrials) -> list[str]:
    return [f"{r.provider}/{Path(r.derived).name or r.variant}" for r in trials.asked]


def test_variants_of_the_cpu_are_tried_in_the_order_of_the_manifest(
    make: MakeModel, box: Box
) -> None:
    trials = FakeTrials(by({"cpu/a": DEAF}))
    choice = box.choose(make([("a", "cpu"), ("b", "cpu"), ("c", "cpu")]), trials)
    assert names(trials) == ["cpu/a", "cpu/b"]
    assert (choice.variant, choice.provider, choice.derived) == ("b", "cpu", "")
    assert "a on cpu was refused: it hears nothing" in choice.reasons
    assert "b on cpu passed and was chosen: 10.0 ms for 1.0 s of audio" in choice.reasons
    assert [attempt.result.passed for attempt in choice.attempts] == [False, True]
    assert choice.decided == "2026-05-01T12:00:00+00:00"


def test_when_all_are_refused_the_first_reason_is_raised_and_nothing_kept(
    make: MakeModel, box: Box
) -> None:
    other = TrialResult(code="inference", level="function", message="not a number")
    trials = FakeTrials(by({"cpu/a": DEAF, "cpu/b": other}))
    found = make([("a", "cpu"), ("b", "cpu")])
    for _ in range(2):
        with pytest.raises(GoldenMismatch) as caught:
            box.choose(found, trials)
        assert caught.value.message == "it hears nothing"
        assert (caught.value.code, caught.value.level) == ("golden_mismatch", "function")
    assert names(trials) == ["cpu/a", "cpu/b"] * 2
    assert box.kept() == []


def test_half_precision_is_tried_first_on_cuda(make: MakeModel, box: Box) -> None:
    trials = FakeTrials(by({"cuda": 0.001, "cpu": 0.01}))
    choice = box.choose(make(BOTH), trials, gpu=GPU)
    assert names(trials) == ["cuda/fp16", "cpu/int8"]
    assert (choice.variant, choice.provider) == ("fp16", "cuda")
    assert trials.derived == []


def test_single_precision_follows_when_half_is_refused(make: MakeModel, box: Box) -> None:
    trials = FakeTrials(by({"cuda/fp16": DEAF, "cuda/fp32": 0.001}))
    choice = box.choose(make(BOTH), trials, gpu=GPU)
    assert names(trials) == ["cuda/fp16", "cuda/fp32", "cpu/int8"]
    assert (choice.variant, choice.provider) == ("fp32", "cuda")
    assert "fp16 on cuda was refused: it hears nothing" in choice.reasons


@pytest.mark.parametrize(("cuda_s", "cpu_s", "wins"), [(0.01, 0.02, "cuda"), (0.02, 0.01, "cpu")])
def test_the_faster_one_is_chosen(
    make: MakeModel, box: Box, cuda_s: float, cpu_s: float, wins: str
) -> None:
    trials = FakeTrials(by({"cuda": cuda_s, "cpu": cpu_s}))
    choice = box.choose(make(BOTH), trials, gpu=GPU)
    assert choice.provider == wins
    assert sum("and is slower: 20.0 ms" in reason for reason in choice.reasons) == 1


def test_cuda_is_chosen_where_it_is_asked_for_even_when_slower(make: MakeModel, box: Box) -> None:
    trials = FakeTrials(by({"cuda": 0.02, "cpu": 0.01}))
    choice = box.choose(make(BOTH), trials, gpu=GPU, provider="cuda")
    assert choice.provider == "cuda"
    faster = "int8 on cpu passed and would be faster, but inference.provider is cuda: 10.0 ms"
    assert any(reason.startswith(faster) for reason in choice.reasons)
    assert not any("is slower" in reason for reason in choice.reasons)


def test_the_cpu_serves_when_cuda_is_asked_for_and_refused(make: MakeModel, box: Box) -> None:
    choice = box.choose(make(BOTH), FakeTrials(by({"cuda": CRASHED})), gpu=GPU, provider="cuda")
    assert (choice.variant, choice.provider) == ("int8", "cpu")
    assert "fp16 on cuda was refused: it ended by signal 11" in choice.reasons


def test_cuda_is_not_looked_at_where_the_cpu_is_asked_for(make: MakeModel, box: Box) -> None:
    trials = FakeTrials(by({"cuda": 0.001}))
    choice = box.choose(make(BOTH), trials, gpu=GPU, provider="cpu")
    assert names(trials) == ["cpu/int8"]
    assert (choice.provider, box.asked_gpu) == ("cpu", 0)


def test_why_cuda_is_not_used_is_told(make: MakeModel, box: Box) -> None:
    choice = box.choose(make(CPU_ONLY), FakeTrials())
    assert choice.reasons[0] == "CUDA is not used: there is no NVIDIA GPU"


def test_a_model_for_another_box_is_refused_in_words(make: MakeModel, box: Box) -> None:
    found, trials = make([("fp32", "cuda")]), FakeTrials()
    with pytest.raises(CompatibilityError) as caught:
        box.choose(found, trials)
    assert caught.value.message == (
        "it has no variant for this box, only for cuda: CUDA is not used: there is no NVIDIA GPU; "
        "the model has no variant for cpu"
    )
    assert trials.asked == []
    choice = box.choose(found, trials, gpu=GPU)
    assert choice.provider == "cuda"
    assert "the model has no variant for cpu" in choice.reasons


def test_int8_alone_is_derived_for_cuda(make: MakeModel, box: Box) -> None:
    found = make([("int8", "cpu"), ("small", "cpu")])
    trials = DerivingTrials(by({"cuda": 0.001}))
    choice = box.choose(found, trials, gpu=GPU)
    assert [request["derivation"] for request in trials.derived] == ["fp16-from-int8"]
    assert names(trials) == ["cuda/fp16-from-int8", "cpu/int8"]
    assert (choice.variant, choice.provider, choice.derived) == ("int8", "cuda", "fp16-from-int8")
    folder = box.state / "derived" / str(found.ref) / "fp16-from-int8"
    assert trials.asked[0].derived == str(folder)
    assert (folder / "derived.json").is_file()
    assert choice.chosen is not None
    assert choice.chosen.name == "fp16-from-int8 on cuda"


def test_a_derivation_that_fails_is_followed_by_the_next(make: MakeModel, box: Box) -> None:
    no = TrialResult(code="compatibility", level="compatibility", message="it holds a Loop")
    trials = DerivingTrials(by({"cuda": 0.001}), refused={"fp16-from-int8": no})
    choice = box.choose(make(CPU_ONLY), trials, gpu=GPU)
    assert names(trials) == ["cuda/fp32-from-int8", "cpu/int8"]
    assert choice.derived == "fp32-from-int8"
    assert "fp16-from-int8 on cuda was refused: it holds a Loop" in choice.reasons


def test_derived_graphs_that_fail_their_trial_are_removed(make: MakeModel, box: Box) -> None:
    found = make(CPU_ONLY)
    trials = DerivingTrials(by({"cuda/fp16-from-int8": DEAF, "cuda/fp32-from-int8": 0.001}))
    choice = box.choose(found, trials, gpu=GPU)
    assert choice.derived == "fp32-from-int8"
    folder = box.state / "derived" / str(found.ref)
    assert [path.name for path in folder.iterdir()] == ["fp32-from-int8"]


def test_derived_graphs_that_are_slower_than_the_cpu_are_removed(make: MakeModel, box: Box) -> None:
    found = make(CPU_ONLY)
    choice = box.choose(found, DerivingTrials(by({"cuda": 0.1, "cpu": 0.01})), gpu=GPU)
    assert (choice.provider, choice.derived) == ("cpu", "")
    assert list((box.state / "derived" / str(found.ref)).iterdir()) == []


def test_nothing_is_derived_for_a_vad(make: MakeModel, box: Box) -> None:
    """It runs every 100 ms on a few frames: a GPU has nothing to win there."""
    trials = FakeTrials()
    choice = box.choose(make(CPU_ONLY), trials, gpu=GPU, role="vad")
    assert (trials.derived, names(trials), box.asked_gpu) == ([], ["cpu/int8"], 0)
    assert not any("CUDA" in reason for reason in choice.reasons)


def test_a_vad_with_a_variant_for_cuda_is_tried_there(make: MakeModel, box: Box) -> None:
    trials = FakeTrials()
    box.choose(make(BOTH), trials, gpu=GPU, role="vad")
    assert names(trials) == ["cuda/fp16", "cpu/int8"]


def test_what_computes_on_the_cpu_in_place_of_the_gpu_is_named(make: MakeModel, box: Box) -> None:
    nodes = {"cuda": 70, "cpu": 30}
    heavy = dataclasses.replace(PASSED, nodes=nodes, notes=("MatMulInteger (12)", "Conv (1)"))
    choice = box.choose(make(BOTH), FakeTrials(by({"cuda": heavy})), gpu=GPU)
    assert (
        "fp16 on cuda: MatMulInteger (12), Conv (1) run on the CPU (30 of 100 nodes do), with "
        "copies around them; this provider has no kernels for them"
    ) in choice.reasons


def test_shape_arithmetic_on_the_cpu_is_no_reason(make: MakeModel, box: Box) -> None:
    light = dataclasses.replace(PASSED, nodes={"cuda": 40, "cpu": 60})
    choice = box.choose(make(BOTH), FakeTrials(by({"cuda": light})), gpu=GPU)
    assert not any("run on the CPU" in reason for reason in choice.reasons)


def test_a_choice_is_remembered_while_the_box_is_the_same(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), FakeTrials()
    first = box.choose(found, trials, day=1)
    again = box.choose(found, trials, day=2)
    assert again == first
    assert len(trials.asked) == 1
    assert box.chooser().remembered(found) == first


@pytest.mark.parametrize(
    "change",
    [
        {"box": {**BOX, "onnxruntime": "onnxruntime 1.21"}},
        {"box": {**BOX, "agent": "2"}},
        {"box": {**BOX, "cpu": "fast"}},
        {"box": {**BOX, "gpu": "driver 550"}},
        {"provider": "cpu"},
        {"provider": "cuda"},
    ],
)
def test_a_choice_is_made_anew_on_a_box_that_changed(
    make: MakeModel, box: Box, change: dict[str, Any]
) -> None:
    found, trials = make(CPU_ONLY), FakeTrials()
    box.choose(found, trials)
    assert box.chooser(**change).remembered(found) is None
    assert box.choose(found, trials, day=2, **change).decided.startswith("2026-05-02")
    assert len(trials.asked) == 2


def test_a_choice_is_of_one_manifest_only(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), FakeTrials()
    box.choose(found, trials)
    other = dataclasses.replace(found, ref=ModelRef("tiny", "0" * 8))
    assert box.chooser().remembered(other) is None


def test_a_choice_whose_derived_graphs_are_gone_is_made_anew(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), DerivingTrials(by({"cuda": 0.001}))
    box.choose(found, trials, gpu=GPU)
    assert box.chooser().remembered(found) is not None
    Disk().remove(box.state / "derived" / str(found.ref))
    assert box.chooser().remembered(found) is None
    box.choose(found, trials, gpu=GPU)
    assert len(trials.derived) == 2


def test_fresh_proves_in_any_case(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), FakeTrials()
    box.choose(found, trials, day=1)
    assert box.choose(found, trials, day=2, fresh=True).decided.startswith("2026-05-02")
    remembered = box.chooser().remembered(found)
    assert remembered is not None
    assert remembered.decided.startswith("2026-05-02")


def test_what_is_not_to_be_kept_is_not(make: MakeModel, box: Box) -> None:
    trials = DerivingTrials(by({"cuda": 0.001}))
    choice = box.choose(make(CPU_ONLY), trials, keep=False, gpu=GPU)
    assert choice.derived == "fp16-from-int8"
    assert not box.state.exists()
    assert not Path(trials.asked[0].derived).exists()


def test_a_crash_is_remembered_with_its_day_and_the_way_out(make: MakeModel, box: Box) -> None:
    """To crash again at every start would cost minutes each time."""
    found, trials = make(CPU_ONLY), FakeTrials(by({"cpu": CRASHED}))
    for day in (1, 2):
        with pytest.raises(AgentError) as caught:
            box.choose(found, trials, day=day)
        assert caught.value.code == "runtime_crash"
        assert caught.value.message == (
            "it ended by signal 11 (tried on 2026-05-01T12:00:00+00:00; "
            "`funasr-agent models verify tiny` tries it again)"
        )
    assert len(trials.asked) == 1


def test_a_crash_beside_a_refusal_is_remembered_as_well(make: MakeModel, box: Box) -> None:
    found = make([("a", "cpu"), ("b", "cpu")])
    trials = FakeTrials(by({"cpu/a": DEAF, "cpu/b": CRASHED}))
    for _ in range(2):
        with pytest.raises(GoldenMismatch, match="tries it again") as caught:
            box.choose(found, trials)
        assert caught.value.message.startswith("it hears nothing (tried on")
    assert len(trials.asked) == 2


def test_fresh_tries_what_crashed_again(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), FakeTrials(by({"cpu": CRASHED}))
    for fresh in (False, True):
        with pytest.raises(AgentError) as caught:
            box.choose(found, trials, fresh=fresh)
    assert caught.value.message == "it ended by signal 11"
    assert len(trials.asked) == 2
    trials.verdict = lambda _: PASSED
    assert box.choose(found, trials, fresh=True).variant == "int8"
    assert box.choose(found, trials).variant == "int8"
    assert len(trials.asked) == 3


def test_a_crash_is_forgotten_when_another_refusal_takes_its_place(
    make: MakeModel, box: Box
) -> None:
    found, trials = make(CPU_ONLY), FakeTrials(by({"cpu": CRASHED}))
    with pytest.raises(CompatibilityError):
        box.choose(found, trials)
    trials.verdict = lambda _: DEAF
    for fresh in (True, False):
        with pytest.raises(GoldenMismatch, match=r"hears nothing$"):
            box.choose(found, trials, fresh=fresh)
    assert len(trials.asked) == 3


def test_what_was_given_up_half_way_is_not_remembered(make: MakeModel, box: Box) -> None:
    given_up = TrialResult(code="aborted", message="the agent is stopping")
    found, trials = make(BOTH), FakeTrials(by({"cpu": given_up}))
    assert box.choose(found, trials, gpu=GPU).provider == "cuda"
    assert box.kept() == []
    trials.verdict = lambda _: PASSED
    first = box.choose(found, trials, gpu=GPU)
    trials.verdict = lambda _: given_up
    with pytest.raises(AgentError, match="the agent is stopping"):
        box.choose(found, trials, gpu=GPU, fresh=True)
    assert box.chooser().remembered(found) == first


def test_a_state_that_can_not_be_written_is_a_warning(
    make: MakeModel, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    found, disk = make(CPU_ONLY), ReadOnlyDisk()
    no = TrialResult(code="error", message="Read-only file system")
    trials = DerivingTrials(refused=dict.fromkeys(("fp16-from-int8", "fp32-from-int8"), no))
    with caplog.at_level(logging.WARNING):
        choice = box.choose(found, trials, disk=disk, gpu=GPU)
    assert (choice.variant, choice.provider) == ("int8", "cpu")
    assert f"the choice for {found.ref} can't be kept: [Errno 30]" in caplog.text
    assert "fp16-from-int8 can't be removed: [Errno 30]" in caplog.text
    with pytest.raises(GoldenMismatch):
        box.choose(found, FakeTrials(by({"cpu": DEAF})), disk=disk)


def test_a_trial_is_asked_for_exactly_what_will_run(make: MakeModel, box: Box) -> None:
    found, trials = make(CPU_ONLY), FakeTrials()
    gpu, vad = GpuSettings(device=1, arena_mb=900), {"max_end_silence_time": 500}
    settings = EngineSettings(threads=3, gpu=gpu, vad=vad)
    box.chooser().choose("vad", found, settings, trials)
    assert trials.asked == [
        TrialRequest(
            folder=str(found.folder),
            manifest_sha256=found.manifest.sha256,
            role="vad",
            variant="int8",
            provider="cpu",
            threads=3,
            gpu={"device": 1, "arena_mb": 900},
            vad=vad,
        )
    ]


def test_a_choice_is_shown_with_its_reasons_and_figures(make: MakeModel, box: Box) -> None:
    trials = DerivingTrials(by({"cuda/fp16-from-int8": DEAF, "cuda": 0.001}))
    choice = box.choose(make(CPU_ONLY), trials, gpu=GPU)
    shown = json.loads(json.dumps(choice.to_json()))
    assert (shown["variant"], shown["provider"]) == ("int8", "cuda")
    assert shown["derived"] == "fp32-from-int8"
    first, second, third = shown["candidates"]
    assert (first["passed"], first["code"]) == (False, "golden_mismatch")
    assert first["reason"] == "it hears nothing"
    assert (second["derived"], second["passed"]) == ("fp32-from-int8", True)
    assert (third["derived"], third["provider"]) == (None, "cpu")
    assert second["real_time_factor"] == 0.001
    assert any("fp16-from-int8 on cuda was refused" in reason for reason in shown["reasons"])


@pytest.fixture
def unsigned(tmp_path: Path) -> FoundModel:
    """A recogniser with unsigned int8 weights."""
    files = asr_files(model_onnx=large_paraformer(0, np.random.default_rng(0), width=64))
    variants = [{"name": "int8", "provider": "cpu", "graphs": {"model": "model.onnx"}}]
    folder = write_model(tmp_path / "models", "tiny", files, variants=variants)
    manifest = read_manifest(folder)
    return FoundModel(ModelRef("tiny", manifest.sha8), manifest, folder, True)


def derived_names(box: Box, found: FoundModel) -> list[str]:
    folder = box.state / "derived" / str(found.ref)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_signed_weights_are_tried_first_on_the_cpu(unsigned: FoundModel, box: Box) -> None:
    trials = DerivingTrials()
    choice = box.choose(unsigned, trials, derive_sizes=ANY_SIZE)
    assert names(trials) == ["cpu/s8-from-u8"]
    assert (choice.variant, choice.provider, choice.derived) == ("int8", "cpu", "s8-from-u8")
    assert choice.reasons[1:] == (
        "s8-from-u8 on cpu: twice as fast",
        "s8-from-u8 on cpu passed and was chosen: 10.0 ms for 1.0 s of audio",
    )
    wanted = trials.derived[0]
    assert (wanted["role"], wanted["threads"], wanted["vad"]) == ("asr_offline", 1, {})
    assert derived_names(box, unsigned) == ["s8-from-u8"]
    assert box.chooser(derive_sizes=ANY_SIZE).remembered(unsigned) == choice


def test_derived_graphs_that_are_refused_leave_the_published_ones(
    unsigned: FoundModel, box: Box
) -> None:
    no = TrialResult(code="compatibility", message="its output logits differs")
    slow = TrialResult(code="not_faster", message="it is no better than int8")
    trials = DerivingTrials(refused={"s8-from-u8": no, "optimised": slow})
    choice = box.choose(unsigned, trials, derive_sizes=ANY_SIZE)
    assert names(trials) == ["cpu/int8"]
    assert (choice.variant, choice.derived) == ("int8", "")
    assert "s8-from-u8 on cpu was refused: its output logits differs" in choice.reasons
    assert "optimised on cpu was refused: it is no better than int8" in choice.reasons
    assert derived_names(box, unsigned) == []


def test_without_unsigned_weights_only_the_optimised_graph_is_tried(
    make: MakeModel, box: Box
) -> None:
    trials = DerivingTrials()
    found = make(CPU_ONLY)
    choice = box.choose(found, trials, derive_sizes=ANY_SIZE)
    assert [request["derivation"] for request in trials.derived] == ["s8-from-u8", "optimised"]
    assert names(trials) == ["cpu/optimised"]
    assert not any("s8-from-u8" in reason for reason in choice.reasons)
    assert [attempt.derived for attempt in choice.attempts] == ["optimised"]
    assert derived_names(box, found) == ["optimised"]


def test_derived_graphs_of_another_choice_are_removed(unsigned: FoundModel, box: Box) -> None:
    no = TrialResult(code="compatibility", message="differs")
    box.choose(unsigned, DerivingTrials(refused={"s8-from-u8": no}), derive_sizes=ANY_SIZE)
    assert derived_names(box, unsigned) == ["optimised"]
    box.choose(unsigned, DerivingTrials(), derive_sizes=ANY_SIZE, fresh=True)
    assert derived_names(box, unsigned) == ["s8-from-u8"]


@pytest.mark.parametrize("bounds", [range(1 << 20, 1 << 30), range(1000)])
def test_nothing_is_derived_for_the_cpu_from_graphs_that_are_too_small_or_too_large(
    unsigned: FoundModel, box: Box, bounds: range
) -> None:
    trials = DerivingTrials()
    box.choose(unsigned, trials, derive_sizes=bounds)
    assert (trials.derived, names(trials)) == ([], ["cpu/int8"])


def test_nothing_is_derived_for_the_cpu_for_a_vad_or_for_a_look(
    unsigned: FoundModel, box: Box
) -> None:
    trials = DerivingTrials()
    box.choose(unsigned, trials, derive_sizes=ANY_SIZE, role="vad")
    box.choose(unsigned, trials, derive_sizes=ANY_SIZE, fresh=True, keep=False)
    assert (trials.derived, names(trials)) == ([], ["cpu/int8", "cpu/int8"])


def test_the_refusal_of_the_model_itself_is_raised_not_that_of_its_derived_graphs(
    unsigned: FoundModel, box: Box
) -> None:
    no = TrialResult(code="compatibility", message="needs 2 GB of memory")
    trials = DerivingTrials(by({"cpu/int8": DEAF}), refused=dict.fromkeys(ON_CPU, no))
    with pytest.raises(GoldenMismatch, match=r"^it hears nothing$"):
        box.choose(unsigned, trials, derive_sizes=ANY_SIZE)


def test_fp32_alone_is_halved_for_cuda(make: MakeModel, box: Box) -> None:
    trials = DerivingTrials(by({"cuda": 0.001}))
    found = make([("fp32", "cuda"), ("int8", "cpu")])
    choice = box.choose(found, trials, gpu=GPU)
    folder = box.state / "derived" / str(found.ref) / "fp16-from-fp32"
    assert (folder / "derived.json").is_file()
    assert [request["derivation"] for request in trials.derived] == ["fp16-from-fp32"]
    assert (choice.variant, choice.provider, choice.derived) == ("fp32", "cuda", "fp16-from-fp32")


def test_fp32_serves_where_its_half_fails(make: MakeModel, box: Box) -> None:
    trials = FakeTrials(by({"cuda/fp16-from-fp32": DEAF, "cuda/fp32": 0.001}))
    choice = box.choose(make([("fp32", "cuda"), ("int8", "cpu")]), trials, gpu=GPU)
    assert names(trials) == ["cuda/fp16-from-fp32", "cuda/fp32", "cpu/int8"]
    assert (choice.variant, choice.derived) == ("fp32", "")


def test_int8_is_the_last_that_is_tried_on_cuda(make: MakeModel, box: Box) -> None:
    """Its provider has no kernels for dynamic int8."""
    found = make([("int8-gpu", "cuda"), ("int8", "cpu")])
    trials = FakeTrials(by({"cuda/fp16-from-int8": DEAF, "cuda/fp32-from-int8": DEAF}))
    box.choose(found, trials, gpu=GPU)
    assert names(trials)[:3] == ["cuda/fp16-from-int8", "cuda/fp32-from-int8", "cuda/int8-gpu"]


def test_fp32_comes_before_int8_on_cuda(make: MakeModel, box: Box) -> None:
    both = make([("int8", "cuda"), ("fp32", "cuda")])
    trials = FakeTrials(by({"cuda/fp16-from-fp32": DEAF, "cuda/fp32": DEAF}))
    box.choose(both, trials, gpu=GPU)
    assert names(trials)[:3] == ["cuda/fp16-from-fp32", "cuda/fp32", "cuda/int8"]
