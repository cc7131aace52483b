"""A kill at any step of a change leaves a runtime that works, and the next change tidies up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtimes.install import install_runtime, remove_runtime
from agent.runtimes.places import LinkedPlace, Place, SitePlace
from agent.runtimes.proof import Proof
from agent.runtimes.wheel import this_python
from tests.unit.runtimes import cut_off
from tests.unit.runtimes.made_wheels import make_site, make_wheel


def place_at(folder: Path, kind: str) -> Place:
    return SitePlace(folder) if kind == "checkout" else LinkedPlace(folder, "cp311")


def works(folder: Path | None) -> Proof:
    return Proof("", "9", folder)


def start(folder: Path, kind: str, wheel: Path, change: str) -> None:
    make_site(folder if kind == "checkout" else folder / "runtime-cpu")
    place = place_at(folder, kind)
    place.recover()
    if change != "install":
        install_runtime(wheel, place, this_python(), works, lambda _: None)


def imported(folder: Path, kind: str) -> tuple[str, str, str]:
    """What its three files say of the version; they belong together or the runtime is broken."""
    module = (folder if kind == "checkout" else folder / "onnxruntime") / "onnxruntime"
    names = ("__init__.py", "capi/build.py", "capi/onnxruntime_pybind11_state.so")
    first, second, third = ((module / name).read_text().strip() for name in names)
    return first.split("'")[1], second.split("'")[1], third.split("...")[-1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: hundreds of small changes are synced, and a kill, unlike a power cut, shows the
    same on any disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.mark.parametrize("kind", ["checkout", "package"])
@pytest.mark.parametrize("change", ["install", "replace", "remove"])
def test_a_kill_at_any_step_leaves_a_runtime_that_works(
    folder: Path, kind: str, change: str
) -> None:
    first, second = make_wheel(folder, "8.0.0"), make_wheel(folder, "9.0.0")
    start(folder / "start" / "lib", kind, first, change)
    action = "remove" if change == "remove" else "install"
    command = [sys.executable, cut_off.__file__, str(folder), action, kind, str(second)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    ends = [line.split()[1] for line in done.stdout.splitlines()]
    assert ends.count("killed") > 5
    assert ends[-1] == "0", "the change fails when it is not killed"
    for steps in range(len(ends)):
        lib = folder / str(steps) / "lib"
        versions = imported(lib, kind)
        assert len(set(versions)) == 1, f"step {steps}: {versions}"
        place = place_at(lib, kind)
        install_runtime(first, place, this_python(), works, lambda _: None)
        assert place.installed().version == imported(lib, kind)[0] == "8.0.0", steps
        assert remove_runtime(place), steps
        assert place.installed().version == imported(lib, kind)[0] == "1.0.0", steps
        assert not place.installed().replaced
