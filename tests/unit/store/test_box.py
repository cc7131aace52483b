"""What of the box a proof depends on, and which runtimes a model takes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from agent.errors import CompatibilityError
from agent.store.box import RUNTIMES, fingerprint, has_gpu, installed_runtimes, require_runtime


def test_the_installed_runtime_is_found() -> None:
    found = installed_runtimes()
    assert found
    assert set(found) <= set(RUNTIMES)
    for name, version in found.items():
        assert version == metadata.version(name)


def test_the_fingerprint_of_a_box_stays_the_same() -> None:
    first = fingerprint()
    assert first == fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert set(first) == {"agent", "onnxruntime", "python", "machine", "cpu", "gpu"}
    assert all(first[key] for key in ("agent", "onnxruntime", "python", "machine", "cpu"))
    assert bool(first["gpu"]) == has_gpu()
    for name, version in installed_runtimes().items():
        assert f"{name} {version}" in first["onnxruntime"]


def test_the_fingerprint_of_a_new_process_is_the_same_and_loads_nothing_native() -> None:
    code = (
        "import json, sys\nfrom agent.store.box import fingerprint\n"
        "print(json.dumps(fingerprint()))\n"
        "print(*(m for m in ('onnxruntime', 'onnx', 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, loaded = done.stdout.split("\n")[:2]
    assert json.loads(told) == fingerprint()
    assert loaded == ""


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("", "0.1"),
        (">=1.17", "1.17"),
        (">=1.17", "1.32.0"),
        (">=1.17", "1.18.0rc1"),
        (">=1.17", "1.23.0+nv24.5"),
        (">=1.17, <2", "1.32.0"),
        ("==1.20.*", "1.20.1"),
        (">=1.17", "a build of our own"),
    ],
)
def test_a_runtime_that_fits_is_taken(wanted: str, version: str) -> None:
    require_runtime(wanted, {"onnxruntime": version})


@pytest.mark.parametrize(
    ("wanted", "version"),
    [(">=1.17", "1.16.3"), ("<2", "2.0"), (">=1.17", "1.17.0rc1"), ("==1.20.*", "1.21.0")],
)
def test_a_runtime_that_does_not_fit_is_refused_with_both_versions(
    wanted: str, version: str
) -> None:
    with pytest.raises(CompatibilityError) as caught:
        require_runtime(wanted, {"onnxruntime-gpu": version})
    assert f"it needs ONNX Runtime {wanted}, onnxruntime-gpu {version} is" in caught.value.message


@pytest.mark.parametrize("wanted", ["new", "1.17", ">=", ">= one", "=>1.17", ";", "\x00"])
def test_a_wish_that_is_no_version_is_refused_in_words(wanted: str) -> None:
    with pytest.raises(CompatibilityError, match=r"which is no version such as >=1\.17") as caught:
        require_runtime(wanted, {"onnxruntime": "1.20"})
    assert caught.value.file == "manifest.yaml"


def test_every_installed_runtime_must_fit() -> None:
    with pytest.raises(CompatibilityError, match=r"onnxruntime-gpu 1\.10"):
        require_runtime(">=1.17", {"onnxruntime": "1.20", "onnxruntime-gpu": "1.10"})


def test_without_a_runtime_there_is_nothing_to_compare() -> None:
    require_runtime(">=1.17", {})


def test_the_runtime_of_this_box_fits_the_models_that_come_with_the_agent() -> None:
    require_runtime(">=1.17")
    with pytest.raises(CompatibilityError):
        require_runtime(">=99")
