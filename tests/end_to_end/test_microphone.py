"""The box's own microphone under a real daemon, with real PortAudio streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
TAIL_S = 1.3
"""Longer than the silence that ends a segment."""


@dataclass(frozen=True)
class Listening:
    """A daemon that listens, what it told, and who speaks to it."""

    daemon: Daemon
    events: Events
    fifo: FifoMicrophone

    def microphone(self) -> dict[str, Any]:
        return microphone(self.daemon)

    def bring_up(self) -> None:
        """Speak silence until it is heard; what follows at once is heard whole."""
        deadline = time.monotonic() + WAIT_S
        while self.microphone()["state"] not in ("running", "muted"):
            assert time.monotonic() < deadline, self.microphone()
            self.fifo.play(silence(0.2))

    def heard(self, kind: str, after: int) -> list[dict[str, Any]]:
        return [e for e in self.events.of(kind) if e["seq"] > after and e.get("text", "-")]

    @property
    def seq(self) -> int:
        return max(event["seq"] for event in self.events.seen)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """One daemon for the tests of a microphone that goes silent at times."""
    folder = tmp_path_factory.mktemp("listening")
    fifo = FifoMicrophone(folder)
    settings = (
        *("microphone.enabled=true", f"microphone.device={fifo.name}"),
        *("microphone.stall_ms=1500", "microphone.ring_ms=20000"),
    )
    with Daemon(folder, *settings, environ=fifo.environ) as daemon, Events(daemon) as events:
        yield Listening(daemon, events, fifo)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()
    fifo.close()


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
                    message = await socket.receive(timeout=0.2)
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return
                    self.seen.append(json.loads(message.data))
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
    return np.concatenate([silence(0.5), clip, silence(TAIL_S)])


def silence(seconds: float) -> Int16:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def test_a_clip_heard_by_the_microphone_is_read_as_the_file_is(
    root: Path, tmp_path: Path, box: Listening
) -> None:
    audio = spoken(root)
    file = tmp_path / "spoken.wav"
    soundfile.write(file, audio, SAMPLE_RATE, "PCM_16")
    command = [sys.executable, "-m", "agent", "transcribe", "--format", "json", str(file)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=120)
    expected = json.loads(done.stdout)["segments"][0]
    box.bring_up()
    before = box.seq
    box.fifo.play(audio)
    until(lambda: box.heard("final", before), "a final")
    final = box.heard("final", before)[0]
    assert final["text"] == expected["text"]
    length_ms = expected["end_ms"] - expected["start_ms"]
    assert final["end_ms"] - final["start_ms"] == pytest.approx(length_ms, abs=20)
    assert {event["source"] for event in box.events.of("session_opened")} == {"microphone"}
    assert box.heard("partial", before), "live text comes too"
    told = box.microphone()
    assert (told["device"], told["rate"], told["channels"]) == (box.fifo.name, 16000, 1)
    levels = [event["level_dbfs"] for event in box.heard("microphone", before)]
    assert max(levels) > -40 > min(levels)
    assert box.daemon.get("/api/v1/status")[1]["microphone"]["enabled"] is True


def test_a_silent_stall_ends_the_sentence_is_told_and_passes_without_restart(
    root: Path, box: Listening
) -> None:
    audio = spoken(root)
    box.bring_up()
    before, told = box.seq, box.microphone()
    box.fifo.play(audio[: len(audio) - len(silence(TAIL_S))])  # and then it says nothing any more
    until(lambda: box.microphone()["state"] == "stalled", "stalled")
    until(lambda: box.heard("final", before), "the final of what was said")
    until(lambda: box.heard("gap", before), "a gap")
    until(lambda: "degraded" in str(box.daemon.get("/health")[1]), "degraded")
    check = next(c for c in box.daemon.get("/health")[1]["checks"] if c["name"] == "microphone")
    assert check["status"] == "degraded"
    assert "fifomic gave no audio for 1500 ms and is being opened again" in check["reason"]
    assert box.daemon.get("/readyz")[0] == 200, "clients are served all the same"
    box.fifo.play(audio)
    until(lambda: len(box.heard("final", before)) == 2, "a second final")
    now = box.microphone()
    assert (now["state"], now["session_id"]) == ("running", told["session_id"])
    assert now["reopened"] == told["reopened"] + 1
    lost_ms = now["dropped_ms"] - told["dropped_ms"]
    gaps = box.heard("gap", before)
    assert sum(event["dropped_ms"] for event in gaps) == pytest.approx(lost_ms, abs=len(gaps))
    assert lost_ms >= 1400


def test_a_capture_process_that_is_killed_is_started_again(box: Listening) -> None:
    box.bring_up()
    reopened = box.microphone()["reopened"]
    (child,) = captures(box.daemon)
    child.send_signal(signal.SIGKILL)
    until(lambda: "SIGKILL" in box.microphone()["reason"], "told")
    box.bring_up()
    assert box.microphone()["reopened"] == reopened + 1
    assert captures(box.daemon) != [child]


def test_an_unplugged_microphone_is_taken_again_when_it_is_back(tmp_path: Path) -> None:
    settings = (
        *("microphone.enabled=true", "microphone.device=usbmic", "microphone.fallback=false"),
    )
    with (
        PulseMicrophone(tmp_path) as source,
        Daemon(tmp_path, *settings, environ=source.environ) as daemon,
    ):
        until(lambda: microphone(daemon)["state"] == "running", "running")
        source.unplug()
        until(lambda: microphone(daemon)["state"] == "absent", "absent")
        assert "usbmic is not there" in microphone(daemon)["reason"]
        metrics = daemon.get("/metrics")[1]
        assert 'funasr_agent_microphone_state{state="absent"} 1.0' in metrics
        assert "funasr_agent_microphone_alive 1.0" in metrics
        assert daemon.get("/readyz")[0] == 200
        source.plug()
        until(lambda: microphone(daemon)["state"] == "running", "running again")
        assert microphone(daemon)["reopened"] == 1


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
