"""The real daemon under a service manager that the test plays: start, watchdog, reload, stop."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import soundfile

from tests.end_to_end.daemon import Daemon

CLIP = "tests/data/clips/zh-1.wav"
SESSIONS = 10
WAIT_S = 60.0


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.heard: list[str] = []

    def environment(self, watchdog_s: float) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}

    def await_message(self, start: str, wait_s: float = WAIT_S) -> str:
        """The next message that begins so; what comes before it is kept in `heard`."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                message = self._socket.recv(65536).decode()
            except TimeoutError:
                break
            self.heard.append(message)
            if message.startswith(start):
                return message
        raise AssertionError(f"no {start} within {wait_s:g} s; heard {self.heard}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def test_ready_is_said_when_the_canary_has_sung_and_stopping_at_the_end(
    tmp_path: Path, manager: Manager
) -> None:
    with Daemon(tmp_path, ready=False, environ=manager.environment(2)) as daemon:
        manager.await_message("READY=1")
        assert daemon.get("/readyz")[0] == 200
        assert manager.heard[0].startswith(("EXTEND_TIMEOUT_USEC=", "STATUS=Starting"))
        manager.await_message("WATCHDOG=1")
        manager.await_message("STATUS=Ready to transcribe")
        manager.await_message("WATCHDOG=1")
        assert daemon.stop() == 0
        manager.await_message("STOPPING=1")


def test_ready_is_said_without_any_usable_model_and_the_status_says_why(
    tmp_path: Path, manager: Manager
) -> None:
    nothing = f"models.dir={tmp_path / 'nothing'}"
    with Daemon(tmp_path, nothing, ready=False, environ=manager.environment(2)) as daemon:
        manager.await_message("READY=1")
        status = manager.await_message("STATUS=Can't transcribe")
        assert "builtin-vad" in status
        manager.await_message("WATCHDOG=1")
        assert daemon.get("/readyz")[0] == 503


def test_a_lane_that_hangs_triggers_the_watchdog(
    root: Path, tmp_path: Path, manager: Manager
) -> None:
    settings = ("inference.job_limit_s=1", "health.canary_s=0.5")
    with Daemon(tmp_path, *settings, environ=manager.environment(30)) as daemon:
        manager.await_message("WATCHDOG=1")
        tasks = Path(f"/proc/{daemon.pid}/task").iterdir()
        thread = next(t.name for t in tasks if (t / "comm").read_text() == "lane-offline\n")
        hold = root / "tests/systemd/hold_thread.py"
        with subprocess.Popen(
            [sys.executable, str(hold), thread],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None
            if holder.stdout.readline() != "held\n":
                pytest.skip("this system lets nobody stop a thread of another process")
            manager.await_message("WATCHDOG=trigger")
            os.kill(daemon.pid, signal.SIGABRT)  # as systemd does then
            assert holder.wait(WAIT_S) == 0
        assert "the offline lane has not answered for" in daemon.log()
        assert "Fatal Python error: Aborted" in daemon.log()  # and where every thread was


async def talk(url: str, clip: Path, until: asyncio.Event) -> list[dict[str, Any]]:
    """A live stream that says the clip, waits, says it again; its finals."""
    data = soundfile.read(clip, dtype="int16")[0].tobytes()
    got: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as stream:
        await stream.send_json({"mode": "2pass", "wav_name": "talk", "is_speaking": True})
        await stream.send_bytes(data)
        await until.wait()
        await stream.send_bytes(bytes(32 * 1500))
        await stream.send_bytes(data)
        await stream.send_json({"is_speaking": False})
        while not got or not got[-1]["is_final"]:
            got.append(await stream.receive_json(timeout=WAIT_S))
    return [message for message in got if message["mode"] == "2pass-offline" and message["text"]]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_a_reload_reaches_new_streams_and_drops_none_of_ten(
    root: Path, tmp_path: Path, manager: Manager
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("recognition: {max_end_silence_ms: 800}\n")
    with Daemon(tmp_path, environ=manager.environment(30)) as daemon:
        manager.await_message("READY=1")
        go = asyncio.Event()
        old = [asyncio.create_task(talk(daemon.url, root / CLIP, go)) for _ in range(SESSIONS)]
        await asyncio.to_thread(wait_until, lambda: open_streams(daemon) == SESSIONS)

        file.write_text("recognition: {max_end_silence_ms: 6000}\ninference: {queue: 9}\n")
        os.kill(daemon.pid, signal.SIGHUP)
        assert "MONOTONIC_USEC=" in await asyncio.to_thread(manager.await_message, "RELOADING=1")
        await asyncio.to_thread(manager.await_message, "READY=1")
        assert end_silence(daemon) == 6000
        assert "needs a restart: inference.queue" in configuration(daemon)

        file.write_text("recognition: {max_end_silence: 1}\nuploads: {max_mb: 0}\n")
        os.kill(daemon.pid, signal.SIGHUP)
        await asyncio.to_thread(manager.await_message, "RELOADING=1")
        await asyncio.to_thread(manager.await_message, "READY=1")
        assert end_silence(daemon) == 6000
        assert "did you mean max_end_silence_ms?" in configuration(daemon)
        assert "did you mean max_end_silence_ms?" in daemon.log()
        assert "uploads.max_mb" in daemon.log()
        status = await asyncio.to_thread(manager.await_message, "STATUS=Transcribing, 10 streams")
        assert "the last reload was refused" in status

        go.set()
        finals = await asyncio.gather(*old)
        assert [len(messages) for messages in finals] == [2] * SESSIONS
        assert len(await talk(daemon.url, root / CLIP, go)) == 1
        assert daemon.stop() == 0


def open_streams(daemon: Daemon) -> int:
    return int(daemon.get("/api/v1/status")[1]["sessions"]["open"])


def end_silence(daemon: Daemon) -> int:
    models = daemon.get("/api/v1/status")[1]["models"]
    vad = next(row for row in models if row["role"] == "vad")
    return int(vad["parameters"]["max_end_silence_time"])


def configuration(daemon: Daemon) -> str:
    checks = daemon.get("/health")[1]["checks"]
    return str(next(check["reason"] for check in checks if check["name"] == "configuration"))


def test_a_closed_terminal_ends_the_agent_and_a_hang_up_in_an_open_one_reloads(
    tmp_path: Path,
) -> None:
    settings = ("--set", "listen.0.port=0", "--set", f"state_dir={tmp_path}")
    child, terminal = pty.fork()
    if child == 0:  # in a session whose terminal the test holds
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "agent", "serve", *settings])
    read_until(terminal, b"open http")
    os.kill(child, signal.SIGHUP)
    read_until(terminal, b"configuration reloaded")
    os.close(terminal)
    deadline = time.monotonic() + WAIT_S
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def read_until(terminal: int, wanted: bytes) -> None:
    """Reads what is written to a terminal until the words come."""
    seen = b""
    deadline = time.monotonic() + WAIT_S
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen!r}"
        seen += os.read(terminal, 4096)
