"""When scripts/run renews the environment, pip never meets a GPU's runtime."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment whose Python only notes how it was called; `install` fails for bad.whl."""
    folder = tmp_path / "venv"
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncase "$*" in *bad.whl*) exit 1 ;; esac\n'
    )
    python.chmod(0o755)
    return folder


def put_gpu_runtime(venv: Path) -> None:
    (venv / "lib/python3.11/site-packages/.funasr-agent-runtimes/cpu").mkdir(parents=True)


def renew(root: Path, venv: Path) -> tuple[list[str], str]:
    """What Python was called with, and what was said."""
    code = '. scripts/lib.sh; gpu_runtime_aside "$0"; gpu_runtime_again "$0"'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code, venv],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    calls = venv.parent / "calls"
    return calls.read_text().splitlines() if calls.exists() else [], done.stderr


def test_it_is_put_aside_and_installed_again(root: Path, venv: Path) -> None:
    put_gpu_runtime(venv)
    (venv / ".gpu").write_bytes(b"--wheel\0/media/my usb/gpu.whl\0")
    calls, said = renew(root, venv)
    assert calls == [
        "-m agent gpu remove",
        "-m agent gpu install --wheel /media/my usb/gpu.whl",
    ]
    assert said == ""


@pytest.mark.parametrize("remembered", [None, b"--wheel\0bad.whl\0"])
def test_what_can_not_be_installed_again_is_said(
    root: Path, venv: Path, remembered: bytes | None
) -> None:
    put_gpu_runtime(venv)
    if remembered is not None:
        (venv / ".gpu").write_bytes(remembered)
    _, said = renew(root, venv)
    assert "run ./scripts/install-gpu" in said


def test_one_that_was_removed_by_hand_does_not_come_back(root: Path, venv: Path) -> None:
    (venv / ".gpu").write_bytes(b"--wheel\0gpu.whl\0")
    assert renew(root, venv) == ([], "")
