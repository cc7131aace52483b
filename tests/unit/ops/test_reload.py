"""Reload: taken or refused as a whole, and told to the service manager."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import Config
from agent.config_loader import load_config
from agent.errors import ModelError
from agent.live_config import LiveConfig
from agent.ops.reload import Reloader
from agent.ops.systemd import Notifier


class Desk:
    """A reloader over a real file, with what it applied and what it said."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.file.write_text("stream: {idle_s: 100}\n")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.notifier = Notifier(str(folder / "notify"), clock_ns=lambda: 5000)
        self.live = LiveConfig(load_config(self.file, {"PATH": ""}))
        self.applied: list[Config] = []
        self.fault: Exception | None = None
        self.ready = True
        self.reloader = Reloader(
            self.live,
            lambda: load_config(self.file, {"PATH": ""}),
            self.apply,
            self.notifier,
            lambda: self.ready,
        )

    async def apply(self, config: Config) -> None:
        if self.fault is not None:
            raise self.fault
        self.applied.append(config)

    def said(self) -> list[str]:
        said = []
        while True:
            try:
                said.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._socket.close()
        self.notifier.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


async def test_a_changed_file_is_applied_and_told(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    desk.file.write_text("stream: {idle_s: 50}\ninference: {queue: 9}\n")
    assert await desk.reloader.reload()
    assert desk.live.current.stream.idle_s == 50
    assert desk.applied == [desk.live.current]
    assert desk.said() == ["RELOADING=1\nMONOTONIC_USEC=5", "READY=1"]
    assert "configuration reloaded; changed: stream.idle_s" in caplog.text
    assert "needs a restart: inference.queue" in caplog.text


async def test_a_bad_file_is_refused_with_every_problem_and_the_old_one_stays(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    before = desk.live.current
    desk.file.write_text("strem: {}\nstream: {idle_s: -1}\n")
    assert not await desk.reloader.reload()
    assert (desk.live.current, desk.applied) == (before, [])
    assert "did you mean stream?" in caplog.text
    assert "stream.idle_s: Input should be greater than 0" in caplog.text
    assert "did you mean stream?" in desk.live.refusal
    assert desk.said()[-1] == "READY=1"


async def test_what_a_part_can_not_take_is_refused_too(desk: Desk) -> None:
    before = desk.live.current
    desk.file.write_text("stream: {idle_s: 50}\n")
    desk.fault = ModelError("sil_pdf_ids names class 9, the graph has 5")
    assert not await desk.reloader.reload()
    assert desk.live.current is before
    assert "class 9" in desk.live.refusal


async def test_a_reload_during_the_start_does_not_say_ready(desk: Desk) -> None:
    desk.ready = False
    desk.file.write_text("stream: {idle_s: 50}\n")
    assert await desk.reloader.reload()
    assert desk.said() == []
