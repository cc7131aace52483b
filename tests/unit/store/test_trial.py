"""Trials in a process of its own: whatever that process does is a result, and never more."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest

from agent.errors import (
    CompatibilityError,
    GoldenMismatch,
    InferenceError,
    IntegrityError,
    ManifestError,
    ModelError,
    RuntimeCrash,
    SignatureError,
)
from agent.store.manifest import read_manifest
from agent.store.trial import TrialRequest, TrialResult, TrialRunner, refusal
from tests.model_loading.graphs import large_paraformer
from tests.model_loading.tiny_models import asr_files, vad_files, write_model

REQUEST = TrialRequest("/nowhere", "", role="vad", variant="fp32", provider="cpu")
ANSWERS = """
import json, os, sys
for line in sys.stdin:
    if json.loads(line)["variant"] == "fatal":
        os.abort()
    print(json.dumps({"notes": [str(os.getpid())]}), flush=True)
"""


def runner(code: str, **more: Any) -> TrialRunner:
    """A runner whose process is a small program."""
    return TrialRunner(command=(sys.executable, "-S", "-c", code), **more)


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def request_for(folder: Path, **more: Any) -> TrialRequest:
    manifest = read_manifest(folder)
    variant = manifest.variants[0]
    request = TrialRequest(
        str(folder), manifest.sha256, manifest.task, variant.name, variant.provider
    )
    return replace(request, **more)


@pytest.fixture(scope="module")
def real() -> Iterator[TrialRunner]:
    """The process that tries models."""
    with TrialRunner() as trials:
        yield trials


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models that pass, by their role."""
    parent = tmp_path_factory.mktemp("models")
    return {
        "vad": write_model(parent, "tiny-vad", vad_files()),
        "asr_offline": write_model(parent, "tiny-asr", asr_files()),
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("input(); import os; os.kill(os.getpid(), 11)", "ended with signal 11 (SIGSEGV); the"),
        ("input(); import os; os.abort()", "ended with signal 6 (SIGABRT); the"),
        ("input(); import os; os.kill(os.getpid(), 40)", "ended with signal 40; the"),
        (
            "input(); import sys; print('first', file=sys.stderr); sys.exit('no kernel')",
            "ended with status 1 (no kernel); the",
        ),
        ("import sys; sys.exit(3)", "ended with status 3; the"),
        ("input(); print('{\"load_s\": 1', end='')", "ended with status 0; the"),
    ],
)
def test_a_process_that_dies_is_told_with_its_end_and_last_words(code: str, told: str) -> None:
    with runner(code) as trials:
        result = trials.run(REQUEST)
    assert (result.code, result.level) == ("runtime_crash", "compatibility")
    assert told in result.message
    assert "`funasr-agent doctor`" in result.message


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(600)",
        "input(); import os, time; os.write(1, b'{\"load_s\": 1'); time.sleep(600)",
    ],
)
def test_a_process_that_hangs_is_ended(code: str) -> None:
    before = children()
    with runner(code, start_s=0.3) as trials:
        started = time.monotonic()
        result = trials.run(REQUEST, timeout_s=0.3)
        assert time.monotonic() - started < 10
        assert children() <= before
    assert result.code == "runtime_crash"
    assert "did not come back within" in result.message


def test_a_process_that_closes_its_output_and_lives_on_is_ended() -> None:
    before = children()
    with runner("input(); import os, time; os.close(1); time.sleep(600)") as trials:
        result = trials.run(REQUEST)
        assert children() <= before
    assert "gave no answer that can be read" in result.message


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"",
        b"null",
        b"[1]",
        b'"load_s"',
        b'{"load_s": "fast"}',
        b'{"load_s": NaN}',
        b'{"golden_s": 1e999}',
        b'{"nodes": {"cpu": Infinity}}',
        b'{"nodes": 3}',
        b'{"notes": 3}',
        b'{"passed": true}',
        b"{}\n{}",
        b"[" * 100_000,
        b"\xff\x00",
    ],
)
def test_an_answer_that_is_none_counts_as_a_crash(line: bytes) -> None:
    with runner(f"input(); import os; os.write(1, {line!r} + b'\\n'); input()") as trials:
        result = trials.run(REQUEST)
    assert result.code == "runtime_crash"
    assert "gave no answer that can be read" in result.message


def test_an_endless_answer_is_cut_off() -> None:
    code = "input(); import sys\nwhile True: sys.stdout.write('x' * 100000)"
    with runner(code) as trials:
        result = trials.run(REQUEST)
    assert "gave no answer that can be read" in result.message


def test_endless_last_words_are_cut_off() -> None:
    code = "input(); import sys; sys.stderr.write('early ' * 10**6 + 'late'); sys.exit(1)"
    with runner(code) as trials:
        message = trials.run(REQUEST).message
    assert "early late)" in message
    assert len(message) < 3000


def test_the_request_after_a_crash_is_served_by_a_new_process() -> None:
    with runner(ANSWERS) as trials:
        first, again = trials.run(REQUEST), trials.run(REQUEST)
        assert trials.run(replace(REQUEST, variant="fatal")).code == "runtime_crash"
        other = trials.run(REQUEST)
    assert first.notes == again.notes
    assert other.passed
    assert other.notes != first.notes


def test_a_process_that_died_between_two_requests_is_no_crash_of_the_second() -> None:
    with runner(ANSWERS.replace("flush=True)", "flush=True); sys.exit(1)")) as trials:
        process = psutil.Process(int(trials.run(REQUEST).notes[0]))
        until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert trials.run(REQUEST).passed


@pytest.mark.parametrize("command", ["{tmp}/absent", "{tmp}", "{tmp}/plain"])
def test_a_process_that_can_not_be_started_is_a_refusal_and_no_crash(
    command: str, tmp_path: Path
) -> None:
    """A crash would be remembered, and is told as the model's fault."""
    (tmp_path / "plain").write_text("no program")
    with TrialRunner(command=[command.format(tmp=tmp_path)]) as trials:
        for _ in range(2):
            result = trials.run(REQUEST)
            assert result.code == "model_load"
            assert "can't be started (" in result.message
        assert "can't be started" in trials.probe("cuda")
        assert not trials.derive({}, timeout_s=1).passed


def test_closing_leaves_no_process() -> None:
    before = children()
    TrialRunner().close()
    trials = runner(ANSWERS)
    trials.run(REQUEST)
    assert len(children() - before) == 1
    trials.close()
    trials.close()
    assert children() <= before


def test_an_error_in_the_block_leaves_no_process() -> None:
    def interrupted() -> None:
        with runner(ANSWERS) as trials:
            trials.run(REQUEST)
            raise KeyboardInterrupt

    before = children()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() <= before


def test_a_closed_runner_can_be_used_again() -> None:
    trials = runner(ANSWERS)
    trials.close()
    with trials:
        assert trials.run(REQUEST).passed


@pytest.mark.parametrize("role", ["vad", "asr_offline"])
def test_a_sound_model_passes_with_figures(
    real: TrialRunner, tiny: dict[str, Path], role: str
) -> None:
    result = real.run(request_for(tiny[role]))
    assert result == replace(result, code="", level="", message="", nodes={}, notes=())
    assert result.passed
    assert result.audio_s == 10.0
    assert result.load_s > 0
    assert 0 < result.golden_s < 4
    assert result.rtf == result.golden_s / result.audio_s
    assert result.memory_mb >= 0


def test_derived_graphs_are_tried_in_place_of_the_own_ones(
    real: TrialRunner, root: Path, tmp_path: Path
) -> None:
    request = request_for(root / "models" / "builtin-vad", variant="int8")
    wanted = {
        "folder": request.folder,
        "manifest_sha256": request.manifest_sha256,
        "variant": "int8",
        "derivation": "fp32-from-int8",
        "target": str(tmp_path),
    }
    assert real.derive(wanted, timeout_s=60) == TrialResult()
    derived = replace(request, derived=str(tmp_path / "fp32-from-int8"))
    assert real.run(derived).passed
    (tmp_path / "fp32-from-int8" / "model.onnx").write_bytes(b"no graph")
    spoiled = real.run(derived)
    assert (spoiled.code, spoiled.level) == ("integrity", "integrity")
    unknown = real.derive({**wanted, "derivation": "fp4-from-int8"}, timeout_s=60)
    assert unknown.code == "compatibility"
    assert "fp4-from-int8" in unknown.message


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser whose time goes into unsigned int8 weights of 1 MB each."""
    graph = large_paraformer(6, np.random.default_rng(0), width=1024)
    return write_model(tmp_path_factory.mktemp("u8"), "unsigned", asr_files(model_onnx=graph))


def derive_request(folder: Path, target: Path, derivation: str) -> dict[str, Any]:
    request = request_for(folder)
    return {
        "folder": request.folder,
        "manifest_sha256": request.manifest_sha256,
        "variant": request.variant,
        "derivation": derivation,
        "target": str(target),
        "role": request.role,
        "threads": 1,
        "vad": {},
    }


def test_graphs_derived_for_the_cpu_are_proven_equal_and_timed_against_the_original(
    real: TrialRunner, unsigned: Path, tmp_path: Path
) -> None:
    """Whether they are better depends on the CPU; the same numbers they give in any case, or the
    difference is told."""
    result = real.derive(derive_request(unsigned, tmp_path, "s8-from-u8"), timeout_s=60)
    told = re.search(
        r"(?:[\d.]+) ms against (?:[\d.]+) ms in the graphs, loads in [\d.]+ s against",
        result.message,
    )
    if result.code == "compatibility":
        assert "differs from the original's on this CPU" in result.message
        return
    assert told is not None
    assert result.code in ("", "not_faster")
    if result.passed:
        assert result.message.startswith("the same numbers as fp32, ")
        derived = replace(request_for(unsigned), derived=str(tmp_path / "s8-from-u8"))
        assert real.run(derived).passed


def test_a_graph_without_unsigned_weights_has_nothing_to_derive_for_the_cpu(
    real: TrialRunner, tiny: dict[str, Path], tmp_path: Path
) -> None:
    wanted = derive_request(tiny["asr_offline"], tmp_path, "s8-from-u8")
    result = real.derive(wanted, timeout_s=60)
    assert result.code == "nothing_to_do"
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_changed_since_it_was_looked_at_is_refused(
    real: TrialRunner, tiny: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_model(tmp_path, "tiny-vad", vad_files())
    request = request_for(folder)
    with open(folder / "manifest.yaml", "ab") as file:
        file.write(b"# one word more\n")
    result = real.run(request)
    assert (result.code, result.level) == ("integrity", "integrity")
    assert result.message == "tiny-vad/manifest.yaml: changed before it could be tried"
    assert real.run(request_for(folder)).passed


def test_refusals_of_every_level_come_through(real: TrialRunner, tmp_path: Path) -> None:
    flipped = write_model(tmp_path, "flipped", vad_files())
    (flipped / "model.onnx").write_bytes(b"\x00" * (flipped / "model.onnx").stat().st_size)
    foreign = write_model(tmp_path, "foreign", vad_files(model_onnx=b"no graph"))
    deaf = write_model(tmp_path, "deaf", vad_files(), family="paraformer", task="asr_offline")
    gone = replace(request_for(foreign), folder=str(tmp_path / "gone"))
    found = [real.run(r) for r in (*map(request_for, (flipped, foreign, deaf)), gone)]
    assert [(r.code, r.level) for r in found] == [
        ("integrity", "integrity"),
        ("compatibility", "compatibility"),
        ("bad_manifest", "integrity"),
        ("bad_manifest", "integrity"),
    ]
    assert all(r.message for r in found)


def test_a_refusal_with_thousands_of_reasons_is_cut_short(
    real: TrialRunner, tmp_path: Path
) -> None:
    """A longer line than the runner reads would be taken for a crash."""
    many = {f"{'long-name-' * 10}{n}": b"" for n in range(300)}
    folder = write_model(tmp_path, "many", {**vad_files(), **many})
    for path in folder.glob("long-name-*"):
        path.unlink()
    result = real.run(request_for(folder))
    assert result.code == "integrity"
    assert 3000 < len(result.message) < 5000


def test_many_requests_take_one_process(real: TrialRunner, tiny: dict[str, Path]) -> None:
    request = request_for(tiny["vad"], runs=1)
    assert real.run(request).passed
    before = {child: child.num_fds() for child in children()}
    for _ in range(10):
        assert real.run(request).passed
    assert {child: child.num_fds() for child in children()} == before


def test_a_crash_leaves_no_core_file_behind(real: TrialRunner, tiny: dict[str, Path]) -> None:
    assert real.run(request_for(tiny["vad"], runs=1)).passed
    mine = [c for c in children() if "agent.store.trial_process" in c.cmdline()]
    assert mine
    for child in mine:
        assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_what_is_printed_beside_the_answers_does_no_harm(tiny: dict[str, Path]) -> None:
    code = """
import os, sys, threading, time
from agent.store import trial_process
def talk():
    while not os.path.sameopenfile(1, 2):
        time.sleep(0.001)
    while True:
        os.write(1, b"the runtime talks\\n")
        time.sleep(0.001)
threading.Thread(target=talk, daemon=True).start()
sys.exit(trial_process.main())
"""
    with TrialRunner(command=(sys.executable, "-c", code)) as trials:
        for role in ("vad", "asr_offline", "vad"):
            assert trials.run(request_for(tiny[role])).passed


def test_beside_live_streams_the_process_gives_way(tiny: dict[str, Path]) -> None:
    before = children()
    with TrialRunner(background=True) as trials:
        assert trials.run(request_for(tiny["vad"], runs=1)).passed
        (child,) = children() - before
        assert child.nice() == min(19, psutil.Process().nice() + 10)


def test_a_provider_that_can_not_be_used_is_a_reason(real: TrialRunner) -> None:
    assert real.probe("cpu") == ""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is a GPU build")
    assert real.probe("cuda").endswith("is a build without CUDA")


def test_a_probe_that_kills_its_process_is_a_reason() -> None:
    with runner("input(); import os; os.abort()") as trials:
        assert "SIGABRT" in trials.probe("cuda")


@pytest.mark.parametrize(
    "error",
    [
        ManifestError("of no use", file="manifest.yaml"),
        IntegrityError("is missing", file="a.onnx"),
        SignatureError("is not signed"),
        CompatibilityError("opset 99"),
        RuntimeCrash("signal 11"),
        GoldenMismatch("it reads nothing"),
        InferenceError("logits is not a number"),
    ],
)
def test_a_refusal_is_the_error_that_it_was_made_of(error: ModelError) -> None:
    again = TrialResult.from_json(asdict(refusal(error))).error()
    assert type(again) is type(error)
    assert (again.code, again.level, again.message) == (error.code, error.level, error.message)


def test_a_result_survives_being_written_down() -> None:
    result = TrialResult(0.1, 0.02, 4.0, 5.5, {"cuda": 7, "cpu": 1}, ("MatMul (1)",), gpu_mb=900.0)
    assert TrialResult.from_json(asdict(result)) == result
    assert TrialResult().rtf == 0
