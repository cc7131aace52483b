"""`funasr-agent bench`: which models, in which forms, and what becomes of the figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.bench.measure import times_of
from agent.bench.plan import Subject, run_all, run_worker, subjects
from agent.bench.report import cpu, usable_cores
from agent.commands.bench import QUICK_S, bench
from agent.engine.base import EngineSettings
from agent.errors import UnknownModel
from agent.store.choices import Attempt, ChoiceBook, ProviderChoice
from agent.store.derive import derivation_named, derive_variant
from agent.store.disk import Disk
from agent.store.manifest import read_manifest
from agent.store.refs import ModelRef
from agent.store.roles import Role
from agent.store.store import ModelStore
from tests.fake_store import PASSED, fake_store
from tests.model_loading.tiny_models import asr_files, vad_files, write_model
from tests.unit.doctor.boxes import box_of

LISTS: dict[str, list[str]] = {"vad": ["tiny-vad"], "asr_offline": ["missing", "tiny-asr"]}
VARIANTS = [
    {"name": name, "provider": provider, "graphs": {"model": "model.onnx"}}
    for name, provider in (("int8", "cpu"), ("fp32", "cpu"), ("fp16", "cuda"))
]
ANSWER = {
    "verify_s": 0.1,
    "load_s": 0.5,
    "memory_mb": 240,
    "memory_after_work_mb": 300,
    "times": [vars(times_of("hop of 600 ms", 600.0, [0.02, 0.03]))],
}


class Workers:
    """Answers every request with the same figures; keeps what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer or ANSWER
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        self.asked.append(request)
        return dict(self.answer)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_model(folder, "tiny-vad", vad_files())
    write_model(folder, "tiny-asr", asr_files(), variants=VARIANTS)
    return folder


def store_of(shipped: Path) -> ModelStore:
    return fake_store(shipped, shipped.parent / "state", LISTS)


def forms(found: list[Subject]) -> list[tuple[str, str, int, bool]]:
    return [(s.found.ref.id, f"{s.form} on {s.provider}", s.threads, s.in_use) for s in found]


def prove(store: ModelStore, shipped: Path, variant: str, derived: str = "") -> None:
    """As if this form had been proven on this box."""
    manifest = read_manifest(shipped / "tiny-asr")
    if derived:
        chosen = next(v for v in manifest.variants if v.name == variant)
        where = shipped.parent / "state" / "derived" / f"tiny-asr@{manifest.sha8}"
        derivation = derivation_named(derived)
        derive_variant(manifest, shipped / "tiny-asr", chosen, derivation, where, Disk())
    attempt = Attempt(variant, "cpu", derived, PASSED)
    fingerprint = store._chooser._fingerprint
    choice = ProviderChoice(variant, "cpu", derived, (), (attempt,), fingerprint, "2026")
    book = ChoiceBook(shipped.parent / "state" / "choices", Disk())
    book.save(ModelRef("tiny-asr", manifest.sha8), choice)


def test_the_models_in_use_are_measured_with_every_number_of_threads(shipped: Path) -> None:
    assert forms(subjects(store_of(shipped), [1, 4])) == [
        ("tiny-vad", "fp32 on cpu", 1, True),
        ("tiny-vad", "fp32 on cpu", 4, True),
        ("tiny-asr", "int8 on cpu", 1, True),
        ("tiny-asr", "int8 on cpu", 4, True),
    ]


def test_derived_graphs_are_measured_beside_the_published_ones(shipped: Path) -> None:
    store = store_of(shipped)
    prove(store, shipped, "int8", "optimised")
    assert forms(subjects(store, [1]))[1:] == [
        ("tiny-asr", "optimised on cpu", 1, True),
        ("tiny-asr", "int8 on cpu", 1, False),
    ]


def test_a_model_that_is_named_is_measured_in_every_form_for_the_cpu(shipped: Path) -> None:
    store = store_of(shipped)
    prove(store, shipped, "fp32")
    assert forms(subjects(store, [1], model="tiny-asr")) == [
        ("tiny-asr", "fp32 on cpu", 1, True),
        ("tiny-asr", "int8 on cpu", 1, False),
    ]
    with pytest.raises(UnknownModel):
        subjects(store, [1], model="nothing")


def test_the_time_is_shared_by_all_kinds_of_work(shipped: Path) -> None:
    planned = subjects(store_of(shipped), [1, 2])
    engine: dict[Role, EngineSettings] = {"asr_offline": EngineSettings(low_memory=True)}
    for budget_s, limit_s in ((12.0, 2.0), (0.0, 0.3), (1e6, 4.0)):
        workers = Workers()
        list(run_all(planned, engine, shipped, budget_s, run=workers))
        assert {request["limit_s"] for request in workers.asked} == {limit_s}
    assert [request["low_memory"] for request in workers.asked] == [False, False, True, True]


def arguments(shipped: Path, **more: Any) -> argparse.Namespace:
    settings = [
        f"models.dir={shipped}",
        f"state_dir={shipped.parent / 'state'}",
        "models.vad=[tiny-vad]",
        "models.asr_offline=[tiny-asr]",
        "models.asr_online=[]",
    ]
    given = {"model": None, "quick": True, "json": False, "report": None, **more}
    return argparse.Namespace(config=None, settings=settings, **given)


@pytest.fixture
def box(tmp_path: Path) -> Any:
    files = {
        "proc/cpuinfo": "model name : Cortex\nFeatures : asimd asimddp asimdhp\n",
        "proc/device-tree/model": "Raspberry Pi 5\0",
    }
    return box_of(tmp_path / "box", files)


def run_bench(shipped: Path, box: Any, *, busy: bool = False, **more: Any) -> int:
    workers = more.pop("run", Workers())
    args = arguments(shipped, **more)
    return bench(args, box=box, run=workers, runs_already=lambda config: busy)


def test_a_table_for_people(shipped: Path, box: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench(shipped, box) == 0
    out, err = capsys.readouterr()
    first, head, *rows = out.splitlines()
    assert first.startswith("Raspberry Pi 5: Cortex, ")
    assert "asimddp; onnxruntime " in first
    assert head.split()[:6] == ["MODEL", "FORM", "THREADS", "VERIFY", "LOAD", "MEMORY"]
    assert len(rows) == 2 * len({1, usable_cores()})
    assert "240 MB  hop of 600 ms  25.0 ms  30.0 ms  real-time factor 0.0417" in rows[0]
    assert "24 streams a thread" in rows[0]
    assert "streams" not in rows[-1]
    assert err == ""


def test_the_report_holds_what_the_figures_depend_on(
    shipped: Path, box: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    assert run_bench(shipped, box, json=True, report=str(file)) == 0
    told = json.loads(file.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == told
    assert (told["board"], told["daemon_running"]) == ("Raspberry Pi 5", False)
    assert (told["cpu"]["int8"], told["cpu"]["vectors"]) == (["asimddp"], ["asimdhp"])
    assert {"funasr-agent", "python", "kernel", "onnxruntime", "numpy"} <= set(told["versions"])
    assert told["settings"]["budget_s"] == QUICK_S
    assert told["settings"]["inference"]["provider"] == "auto"
    row = told["results"][0]
    assert (row["role"], row["variant"], row["provider"]) == ("vad", "fp32", "cpu")
    assert len(row["sha256"]) == 64
    assert row["times"][0]["streams_a_thread"] == 24
    assert row["times"][0]["p95_ms"] == 30.0


def test_a_running_agent_is_warned_of(
    shipped: Path, box: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(shipped, box, busy=True) == 0
    assert "warning: an agent runs on this box" in capsys.readouterr().err


def test_what_can_not_be_measured_is_told_and_fails(
    shipped: Path, box: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(shipped, box, run=Workers(problem="it is damaged")) == 1
    out, err = capsys.readouterr()
    assert "fp32: it is damaged" in err
    assert len(out.splitlines()) == 2


def test_the_worker_measures_a_real_model(shipped: Path) -> None:
    planned = subjects(store_of(shipped), [1])
    found = list(run_all(planned, {}, shipped, 0.0))
    assert [result.problem for result in found] == ["", ""]
    vad, asr = found
    assert [entry.what for entry in asr.times] == ["10 s of audio", "30 s of audio"]
    assert vad.times[0].what == "chunk of 100 ms"
    assert all(result.load_s > 0 and result.memory_mb >= 0 for result in found)
    assert all(entry.p50_ms > 0 for result in found for entry in result.times)


def test_a_damaged_model_is_a_problem_in_words(shipped: Path) -> None:
    (shipped / "tiny-vad" / "model.onnx").write_bytes(b"no graph")
    planned = subjects(store_of(shipped), [1])[:1]
    (result,) = run_all(planned, {}, shipped, 0.0)
    assert result.problem.startswith("model.onnx: size is 8, manifest says ")


def test_a_worker_that_fails_or_hangs_is_a_problem_in_words() -> None:
    assert run_worker({}, 60)["problem"] == "KeyError: 'role'"
    assert run_worker({}, 0.001)["problem"] == "did not come to an end within 0 s"


def test_a_processor_without_features_is_told_as_such(tmp_path: Path) -> None:
    found = cpu(box_of(tmp_path, {"proc/cpuinfo": "processor : 0\n"}))
    assert (found["model"], found["int8"], found["vectors"]) == ("unknown", [], [])


def test_the_arguments_reach_the_command() -> None:
    from agent.cli import build_parser

    args = build_parser().parse_args(["bench", "--quick", "--report", "r.json", "--model", "x"])
    assert (args.command, args.quick, args.report, args.model) == ("bench", True, "r.json", "x")
