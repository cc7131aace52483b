"""`funasr-agent devices` over a real PortAudio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.audio.level import Level
from agent.commands.devices import bar
from tests.sound import FifoMicrophone


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[FifoMicrophone]:
    made = FifoMicrophone(tmp_path)
    yield made
    made.close()


def start(tmp_path: Path, environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent", "devices", "--set", f"state_dir={tmp_path}"]
    return subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, **environ},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def devices(tmp_path: Path, environ: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    process = start(tmp_path, environ, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_devices_are_listed_and_the_one_in_use_is_marked(
    tmp_path: Path, fifo: FifoMicrophone
) -> None:
    status, out, _ = devices(tmp_path, fifo.environ, "--set", "microphone.device=fifo")
    assert status == 0
    assert f"* {fifo.name}\n" in out
    assert "microphone.device: fifo" in out
    assert "set microphone.enabled: true" in out


def test_json_tells_native_rate_channels_and_use(tmp_path: Path, fifo: FifoMicrophone) -> None:
    status, out, _ = devices(tmp_path, fifo.environ, "--json")
    (row,) = [row for row in json.loads(out)["devices"] if row["name"] == fifo.name]
    assert (status, row["used"]) == (0, True)
    assert row["rate"] > 0
    assert row["channels"] > 0


def test_a_wanted_device_that_is_not_there_is_told(tmp_path: Path, fifo: FifoMicrophone) -> None:
    wanted = ("--set", "microphone.device=jabra", "--set", "microphone.fallback=false")
    _, out, _ = devices(tmp_path, fifo.environ, *wanted)
    assert "none matches microphone.device: jabra" in out


def test_the_level_is_live(tmp_path: Path, fifo: FifoMicrophone) -> None:
    process = start(tmp_path, fifo.environ, "--level")
    assert process.stdout is not None
    loud = np.full(3 * 16000, 16384, np.int16)
    speaker = threading.Thread(target=fifo.play, args=(loud,), daemon=True)
    speaker.start()
    assert any("-6.0 dBFS, peak   -6.0" in line for line in process.stdout)
    speaker.join(20)
    process.kill()
    process.communicate(timeout=20)


def test_without_pyaudio_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pyaudio").mkdir()
    (tmp_path / "pyaudio/__init__.py").write_text("raise ImportError('hidden by the test')\n")
    status, out, err = devices(tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert (status, out) == (1, "")
    assert "portaudio19-dev" in err
    assert "Traceback" not in err


def test_a_bar_grows_with_the_level_and_says_when_it_is_too_much() -> None:
    assert bar(Level()).startswith("[..............................]")
    assert "silent" in bar(Level())
    assert bar(Level(-30, -20)).count("#") == 15
    assert "too loud" in bar(Level(-3, 0, clipped=4))
