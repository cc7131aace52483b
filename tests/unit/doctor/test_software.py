"""Python, libraries, ONNX Runtime, telemetry: each fault in turn gives the line that says so."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from agent.doctor.box import Box, Outcome
from agent.doctor.interpreter import Interpreter, check_python, elf_machine
from agent.doctor.packages import check_packages, explain
from agent.doctor.running import Once
from agent.doctor.runtime import RuntimeFacts, check_runtime, check_telemetry, find_runtime
from tests.unit.doctor.boxes import answering, box_of, line

NO_LIBGOMP = "libgomp.so.1: cannot open shared object file"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n"


def elf(path: Path, machine: int) -> Path:
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine))
    return path


@pytest.fixture
def python(tmp_path: Path) -> Interpreter:
    return Interpreter(
        (3, 11, 2), elf(tmp_path / "python", 183), 64, "aarch64", "/opt/venv", "/usr"
    )


def test_this_interpreter_is_fine_here() -> None:
    status, seen, _ = line(check_python(Box(), Interpreter.of_this_process()))
    assert status == "ok"
    assert "64 bit on" in seen


def test_a_virtual_environment_is_told_from_the_systems_python(
    tmp_path: Path, python: Interpreter
) -> None:
    box = box_of(tmp_path, {"proc/cpuinfo": ARM})
    assert "virtual environment /opt/venv" in line(check_python(box, python))[1]
    status, seen, _ = line(check_python(box, replace(python, prefix="/usr")))
    assert (status, "the system's Python" in seen) == ("ok", True)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"version": (3, 9, 2)}, "failure", "too old"),
        ({"version": (3, 14, 0)}, "warning", "newer than what is tested"),
        ({"bits": 32}, "failure", "a 32-bit Python on a 64-bit kernel"),
        ({"bits": 32, "machine": "armv7l"}, "failure", "a 32-bit system"),
        ({"machine": "riscv64", "executable": Path("/none")}, "warning", "without wheels"),
    ],
)
def test_a_python_that_does_not_fit_is_told(
    tmp_path: Path, python: Interpreter, change: dict[str, object], status: str, words: str
) -> None:
    box = box_of(tmp_path, {"proc/cpuinfo": ARM})
    found = line(check_python(box, replace(python, **change)))  # type: ignore[arg-type]
    assert found[0] == status
    assert words in found[1]
    assert found[2]


def test_a_python_for_another_processor_is_told_as_emulated(
    tmp_path: Path, python: Interpreter
) -> None:
    emulated = replace(python, executable=elf(tmp_path / "x86", 62), machine="x86_64")
    assert elf_machine(emulated.executable) == "x86_64"
    status, seen, advice = line(check_python(box_of(tmp_path, {"proc/cpuinfo": ARM}), emulated))
    assert status == "warning"
    assert "made for x86_64 and emulated" in seen
    assert "aarch64" in advice
    assert line(check_python(box_of(tmp_path, {"proc/cpuinfo": X86}), emulated))[0] == "ok"


# Libraries.


def installed(folder: Path, name: str, version: str, requires: list[str], module: str = "") -> None:
    """A distribution as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {item}" for item in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "top_level.txt").write_text(f"{module or name}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for distributions and modules that child processes look into first."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def box_with(site: Path) -> Box:
    return Box(python_path=[str(site)])


def test_the_libraries_of_this_installation_are_fine() -> None:
    status, seen, _ = line(check_packages(Box()))
    assert status == "ok"
    assert "can be imported" in seen


def test_a_missing_an_old_and_a_broken_library_are_all_named(site: Path) -> None:
    needs = ["gonelib>=1", "oldlib>=2", "badlib", "goodlib", 'testlib; extra == "test"']
    installed(site, "funasr-agent", "0.1.0", needs)
    installed(site, "oldlib", "1.9", [])
    installed(site, "badlib", "1", [])
    installed(site, "goodlib", "1", [])
    for name in ("oldlib", "goodlib"):
        (site / f"{name}.py").write_text("")
    (site / "badlib.py").write_text(
        "raise ImportError('libgomp.so.1: cannot open shared object file')"
    )
    status, seen, advice = line(check_packages(box_with(site)))
    assert status == "failure"
    assert "needs 4 libraries" in seen
    assert "gonelib is not installed" in seen
    assert "oldlib is 1.9, >=2 is needed" in seen
    assert "badlib can't be imported: ImportError: libgomp.so.1" in seen
    assert "goodlib is" not in seen
    assert "apt install libgomp1" in advice


def test_a_library_that_kills_the_process_is_named_and_the_rest_is_tried(site: Path) -> None:
    installed(site, "funasr-agent", "0.1.0", ["deadly", "after"])
    installed(site, "deadly", "1", [])
    installed(site, "after", "1", [])
    (site / "deadly.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    (site / "after.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    status, seen, advice = line(check_packages(box_with(site)))
    assert status == "failure"
    assert "importing deadly kills the process (SIGILL)" in seen
    assert "after can't be imported" in seen
    assert "64-bit system" in advice
    assert "another generation of numpy" in advice


def test_any_build_of_the_runtime_is_the_runtime(site: Path) -> None:
    installed(site, "funasr-agent", "0.1.0", ["onnxruntime>=1.17"])
    installed(site, "onnxruntime-gpu", "1.20.0", [], "onnxruntime")
    (site / "onnxruntime.py").write_text("")
    assert line(check_packages(box_with(site)))[0] == "ok"


def test_source_that_was_never_installed_is_told(site: Path) -> None:
    status, seen, _ = line(check_packages(box_with(site)))
    assert (status, "without being installed" in seen) == ("warning", True)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ImportError: libfoo.so.3: cannot open shared object file", "libfoo.so.3"),
        ("ImportError: /lib/libm.so.6: version `GLIBC_2.38' not found", "newer system"),
        ("importing it kills the process (SIGILL)", "instructions that this processor lacks"),
        ("ValueError: numpy.dtype size changed", "another generation of numpy"),
    ],
)
def test_what_an_import_says_is_put_into_plain_words(said: str, advice: str) -> None:
    assert advice in explain(said)


# ONNX Runtime.


def test_the_runtime_of_this_installation_is_found() -> None:
    facts = find_runtime(Box())
    assert facts.problem == ""
    assert "CPUExecutionProvider" in facts.providers
    assert line(check_runtime(Once(lambda: facts)))[0] == "ok"


@pytest.mark.parametrize(
    ("outcome", "words", "advice"),
    [
        (Outcome(-4), "importing it kills the process (SIGILL)", "64-bit system"),
        (Outcome(-11, stderr="x"), "kills the process (SIGSEGV)", "install onnxruntime again"),
        (Outcome(None, timed_out=True), "importing it does not end", "install onnxruntime again"),
        (
            Outcome(
                1, stderr="Traceback\nImportError: libgomp.so.1: cannot open shared object file"
            ),
            "can't be imported: ImportError: libgomp.so.1",
            "apt install libgomp1",
        ),
    ],
)
def test_a_runtime_that_can_not_be_imported_is_told(
    tmp_path: Path, outcome: Outcome, words: str, advice: str
) -> None:
    box = answering(box_of(tmp_path), {"import onnxruntime": outcome})
    status, seen, todo = line(check_runtime(Once(lambda: find_runtime(box))))
    assert status == "failure"
    assert words in seen
    assert advice in todo


def test_two_distributions_of_the_runtime_are_a_failure_in_plain_words(site: Path) -> None:
    installed(site, "onnxruntime-gpu", "1.20.0", [], "onnxruntime")
    facts = find_runtime(Box())  # beside the one of this installation
    status, seen, advice = line(check_runtime(Once(lambda: facts)))
    assert status == "failure"
    assert "onnxruntime-gpu 1.20.0" in seen
    assert "installed" in facts.packages
    assert "uninstall" in advice


def test_the_runtimes_facts_are_read_from_the_child(tmp_path: Path) -> None:
    found = {"version": "1.20.1", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    said = "noise\npackages \nanswer " + json.dumps(found) + "\n"
    box = answering(box_of(tmp_path), {"import onnxruntime": Outcome(0, stdout=said)})
    assert find_runtime(box) == RuntimeFacts(found["version"], tuple(found["providers"]))  # type: ignore[arg-type]


# Telemetry.


def test_no_child_process_of_the_check_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    code = "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert Box().python(code, timeout_s=20).stdout.strip() == "1"


def test_the_engine_switches_telemetry_off_before_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    status, seen, _ = line(check_telemetry(Box()))
    assert (status, "ORT_DISABLE_TELEMETRY=1" in seen) == ("ok", True)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (Outcome(0, stdout="answer unset\n"), "failure", "is unset when the runtime is imported"),
        (Outcome(1, stderr="ImportError: no numpy"), "warning", "no numpy"),
        (Outcome(None, timed_out=True), "warning", "not known"),
    ],
)
def test_telemetry_that_is_not_proven_off_is_told(
    tmp_path: Path, outcome: Outcome, status: str, words: str
) -> None:
    box = answering(box_of(tmp_path), {"sys.meta_path": outcome})
    found = line(check_telemetry(box))
    assert found[0] == status
    assert words in found[1]
