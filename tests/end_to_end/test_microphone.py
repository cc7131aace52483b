"""The box's own microphone under a real daemon, with real PortAudio streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import pytest
import soundfile

from agent.types import SAMPLE_RATE, Int16
from tests.end_to_end.daemon import Daemon
from tests.sound import FifoMicrophone, PulseMicrophone

CLIP = "tests/data/clips/en-1.wav"
WAIT_S = 30.0
LISTENING = ("microphone.enabled=true", "microphone.ring_ms=20000")


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[FifoMicrophone]:
    made = FifoMicrophone(tmp_path)
    yield made
    made.close()


class Events:
    """Everything that `/api/v1/events` tells, gathered in a thread."""

    def __init__(self, daemon: Daemon) -> None:
        self._url = daemon.url + "/api/v1/events"
        self.seen: list[dict[str, Any]] = []
        self._open, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._gather()), daemon=True)

    def __enter__(self) -> Events:
        self._thread.start()
        assert self._open.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(WAIT_S)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.seen if event["type"] == kind]

    async def _gather(self) -> None:
        async with aiohttp.ClientSession() as http, http.ws_connect(self._url) as socket:
            while not self._end.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    self.seen.append(json.loads((await socket.receive(timeout=0.2)).data))
                    self._open.set()


def microphone(daemon: Daemon) -> dict[str, Any]:
    _, body = daemon.get("/api/v1/microphone")
    assert isinstance(body, dict)
    return body


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def spoken(root: Path) -> Int16:
    """The clip with silence around it, as a room has it."""
    clip = soundfile.read(root / CLIP, dtype="int16")[0]
    return np.concatenate([silence(0.5), clip, silence(2.0)])


def silence(seconds: float) -> Int16:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def set_controls(daemon: Daemon, **fields: object) -> dict[str, Any]:
    request = urllib.request.Request(
        daemon.url + "/api/v1/microphone", json.dumps(fields).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        told = json.load(answer)
        assert isinstance(told, dict)
        return told


def test_a_clip_heard_by_the_microphone_is_read_as_the_file_is(
    root: Path, tmp_path: Path, fifo: FifoMicrophone
) -> None:
    audio = spoken(root)
    file = tmp_path / "spoken.wav"
    soundfile.write(file, audio, SAMPLE_RATE, "PCM_16")
    command = [sys.executable, "-m", "agent", "transcribe", "--format", "json", str(file)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=120)
    expected = json.loads(done.stdout)
    settings = (*LISTENING, f"microphone.device={fifo.name}")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon, Events(daemon) as events:
        fifo.play(audio)
        until(lambda: [e for e in events.of("final") if e["text"]], "a final")
        final = next(event for event in events.of("final") if event["text"])
        assert final["text"] == expected["text"]
        segment = expected["segments"][0]
        assert (final["start_ms"], final["end_ms"]) == (segment["start_ms"], segment["end_ms"])
        assert {event["source"] for event in events.of("session_opened")} == {"microphone"}
        assert events.of("partial"), "live text comes too"
        told = microphone(daemon)
        assert (told["state"], told["dropped_ms"], told["overflows"]) == ("running", 0, 0)
        assert (told["device"], told["rate"], told["channels"]) == (fifo.name, 16000, 1)
        levels = [event["level_dbfs"] for event in events.of("microphone")]
        assert max(levels) > -40 > min(levels)


def test_a_silent_stall_ends_the_sentence_is_told_and_passes_without_restart(
    root: Path, tmp_path: Path, fifo: FifoMicrophone
) -> None:
    audio = spoken(root)
    cut_off = audio[: len(audio) - len(silence(2.0))]
    settings = (*LISTENING, f"microphone.device={fifo.name}", "microphone.stall_ms=700")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon, Events(daemon) as events:
        pid = daemon.pid
        fifo.play(cut_off)  # and then the device says nothing any more
        until(lambda: microphone(daemon)["state"] == "stalled", "stalled")
        until(lambda: [e for e in events.of("final") if e["text"]], "the final of what was said")
        until(lambda: daemon.get("/health")[1]["status"] == "degraded", "degraded")
        check = next(c for c in daemon.get("/health")[1]["checks"] if c["name"] == "microphone")
        assert "gave no audio for 700 ms" in check["reason"]
        assert daemon.get("/readyz")[0] == 200, "clients are served all the same"
        until(lambda: events.of("gap"), "a gap")
        fifo.play(audio)
        until(lambda: len([e for e in events.of("final") if e["text"]]) == 2, "a second final")
        told = microphone(daemon)
        assert (told["state"], told["reopened"]) == ("running", 1)
        assert told["dropped_ms"] == sum(event["dropped_ms"] for event in events.of("gap")) > 0
        assert len(events.of("session_opened")) == 1, "a short absence ends no session"
        assert daemon.pid == pid
        assert "Traceback" not in daemon.log()


def test_an_unplugged_microphone_is_taken_again_when_it_is_back(tmp_path: Path) -> None:
    settings = (*LISTENING, "microphone.device=usbmic", "microphone.fallback=false")
    with (
        PulseMicrophone(tmp_path) as source,
        Daemon(tmp_path, *settings, environ=source.environ) as daemon,
    ):
        until(lambda: microphone(daemon)["state"] == "running", "running")
        source.unplug()
        until(lambda: microphone(daemon)["state"] == "absent", "absent")
        assert "'usbmic' is not there" in microphone(daemon)["reason"]
        source.plug()
        until(lambda: microphone(daemon)["state"] == "running", "running again")
        assert microphone(daemon)["reopened"] == 1
        assert daemon.get("/health")[0] == 200


def test_an_absent_microphone_at_the_start_is_told_and_the_box_works(
    root: Path, tmp_path: Path, fifo: FifoMicrophone
) -> None:
    settings = (*LISTENING, "microphone.device=jabra", "microphone.fallback=false")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon:
        until(lambda: microphone(daemon)["state"] == "absent", "absent")
        assert "'jabra' is not there" in daemon.get("/api/v1/status")[1]["microphone"]["reason"]
        assert daemon.get("/readyz")[0] == 200
        metrics = daemon.get("/metrics")[1]
        assert 'funasr_agent_microphone_state{state="absent"} 1.0' in metrics
        assert "funasr_agent_microphone_alive 1.0" in metrics


def test_another_device_serves_where_the_wanted_one_is_absent(
    tmp_path: Path, fifo: FifoMicrophone
) -> None:
    with Daemon(tmp_path, *LISTENING, "microphone.device=jabra", environ=fifo.environ) as daemon:
        fifo.play(silence(0.5))
        until(lambda: microphone(daemon)["fallback"], "a fallback")
        told = microphone(daemon)
        assert told["device"] == fifo.name
        assert "'jabra' is not there" in told["reason"]


def test_a_muted_microphone_hears_nothing_and_stays_muted_over_a_restart(
    root: Path, tmp_path: Path, fifo: FifoMicrophone
) -> None:
    settings = (*LISTENING, f"microphone.device={fifo.name}")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon, Events(daemon) as events:
        fifo.play(silence(0.5))
        until(lambda: microphone(daemon)["state"] == "running", "running")
        assert set_controls(daemon, muted=True, gain_db=6)["state"] == "muted"
        fifo.play(spoken(root))
        assert not events.of("voice_started")
        assert daemon.get("/health")[1]["status"] == "ok"
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon:
        told = microphone(daemon)
        assert (told["muted"], told["gain_db"]) == (True, 6)


def test_a_capture_process_that_is_killed_is_started_again(
    tmp_path: Path, fifo: FifoMicrophone
) -> None:
    with Daemon(
        tmp_path, *LISTENING, f"microphone.device={fifo.name}", environ=fifo.environ
    ) as daemon:
        fifo.play(silence(0.3))
        until(lambda: microphone(daemon)["state"] == "running", "running")
        (child,) = captures(daemon)
        child.send_signal(signal.SIGKILL)
        until(lambda: "SIGKILL" in microphone(daemon)["reason"], "told")
        until(lambda: captures(daemon) not in ([], [child]), "a new process")
        fifo.play(silence(0.3))
        until(lambda: microphone(daemon)["reopened"] == 1, "reopened")


def test_no_capture_process_outlives_a_daemon_that_was_killed(
    tmp_path: Path, fifo: FifoMicrophone
) -> None:
    daemon = Daemon(tmp_path, *LISTENING, environ=fifo.environ)
    with daemon:
        until(lambda: captures(daemon), "a capture process")
        (child,) = captures(daemon)
        os.kill(daemon.pid, signal.SIGKILL)
        until(lambda: not child.is_running() or child.status() == "zombie", "its end")


def test_without_pyaudio_the_agent_says_so_and_runs_on(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "pyaudio").mkdir(parents=True)
    (hidden / "pyaudio/__init__.py").write_text("raise ImportError('hidden by the test')\n")
    environ = {"PYTHONPATH": str(hidden)}
    with Daemon(tmp_path, "microphone.enabled=true", environ=environ) as daemon:
        until(lambda: microphone(daemon)["state"] == "unavailable", "unavailable")
        assert "PyAudio is not installed" in microphone(daemon)["reason"]
        assert "portaudio19-dev" in microphone(daemon)["reason"]
        assert daemon.get("/readyz")[0] == 200


def test_a_checkout_does_not_listen_unasked(tmp_path: Path) -> None:
    with Daemon(tmp_path, ready=False) as daemon:
        assert microphone(daemon)["state"] == "off"
        assert not captures(daemon)
        names = {check["name"] for check in daemon.get("/health")[1]["checks"]}
        assert "microphone" not in names


def captures(daemon: Daemon) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(daemon.pid).children():
        with contextlib.suppress(psutil.Error):
            if "agent.audio.capture_process" in child.cmdline():
                found.append(child)
    return found
