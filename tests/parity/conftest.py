"""Comparisons with FunASR's own code: run by `scripts/parity`, skipped otherwise.

FUNASR_PARITY_MODELS names the folder of exported models (one folder a model, as
scripts/export_models.py makes them), FUNASR_PARITY_CHECKPOINTS that of their checkpoints,
FUNASR_PARITY_REPORT a file to write the table to, FUNASR_PARITY_THREADS the threads of each side,
FUNASR_PARITY_SECONDS a limit of the speech for a quick look.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from agent.engine.side_files import read_config
from tests.parity.clips import Clip, long_audio, some, speech
from tests.parity.ledger import Ledger
from tests.parity.ours import FP32, Exported

_MODELS = "FUNASR_PARITY_MODELS"
_CHECKPOINTS = "FUNASR_PARITY_CHECKPOINTS"
_REPORT = "FUNASR_PARITY_REPORT"
_THREADS = "FUNASR_PARITY_THREADS"
_SECONDS = "FUNASR_PARITY_SECONDS"
_NEEDED = ("torch", "funasr", "funasr_onnx")
_VERSIONS = ("funasr", "funasr_onnx", "torch", "onnxruntime", "kaldi-native-fbank", "numpy")
_SPEECH_FOR_TORCH_S = 80
"""Torch takes a second or two for a second of audio."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Comparisons take minutes: not under the limit of the other tests."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session", autouse=True)
def models() -> Path:
    """The folder of exported models."""
    named = os.environ.get(_MODELS)
    if not named:
        pytest.skip(f"comparisons with FunASR's own code: scripts/parity runs them ({_MODELS})")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra `export` is not installed here: {', '.join(missing)}")
    return Path(named)


@pytest.fixture(scope="session")
def threads() -> int:
    return int(os.environ.get(_THREADS, "2"))


@pytest.fixture(scope="session")
def audio(shared: Path) -> Path:
    return shared / "audio"


@pytest.fixture(scope="session")
def clips(audio: Path) -> list[Clip]:
    """Speech for comparisons with funasr_onnx."""
    found = speech(audio)
    return some(found, float(os.environ.get(_SECONDS) or "inf"))


@pytest.fixture(scope="session")
def torch_clips(clips: list[Clip]) -> list[Clip]:
    """Speech for comparisons with torch: every second clip of the others."""
    return some(clips[::2], _SPEECH_FOR_TORCH_S)


@pytest.fixture(scope="session")
def recordings(audio: Path) -> list[Clip]:
    """Long audio with pauses and noise."""
    return long_audio(audio)


@pytest.fixture(scope="session")
def exported(models: Path, used: dict[str, str]) -> Callable[..., Exported]:
    """Name and form -> the exported folder; skips where it is not there."""

    def find(name: str, form: str = FP32) -> Exported:
        found = Exported(models / name, form)
        if not found.has(f"model{form}.onnx"):
            pytest.skip(f"no model{form}.onnx of {name} among the exported models")
        used.setdefault(name, str(read_config(found).get("model", "")))
        return found

    return find


@pytest.fixture
def original(models: Path, threads: int, used: dict[str, str]) -> Iterator[Callable[[str], Any]]:
    """Name -> the checkpoint in torch; it is dropped behind the test, for its memory."""
    folder = Path(os.environ.get(_CHECKPOINTS) or models)

    def opened(name: str) -> Any:
        if not (folder / name / "model.pt").is_file():
            pytest.skip(f"no checkpoint (model.pt) of {name}")
        from tests.parity.original import Original

        found = Original(folder / name, threads)
        used[name] = f"{found.auto.kwargs['model']}, {found.parameters / 1e6:.1f} M weights"
        return found

    yield opened
    gc.collect()


@pytest.fixture(scope="session")
def used() -> dict[str, str]:
    """Model -> what it is."""
    return {}


@pytest.fixture
def ledger(table: Ledger) -> Iterator[Ledger]:
    """The table; a test that has written a difference that nothing explains fails at its end."""
    before = len(table.rows)
    yield table
    if found := table.different(before):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.fixture(scope="session")
def table(used: dict[str, str], pytestconfig: pytest.Config) -> Iterator[Ledger]:
    """Gathers the rows; writes them where FUNASR_PARITY_REPORT says."""
    kept = Ledger()
    yield kept
    pytestconfig.stash[_LINES] = kept.lines()
    if report := os.environ.get(_REPORT):
        kept.write(Path(report), _facts(), [f"{name} ({used[name]})" for name in sorted(used)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("parity with FunASR")
        for line in lines:
            terminalreporter.write_line(line)


_LINES = pytest.StashKey[list[str]]()


def _facts() -> dict[str, str]:
    versions = (f"{name} {metadata.version(name)}" for name in _VERSIONS)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
    }
