"""When the service manager is told what: start, status, watchdog."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ops.supervisor import LOADING_LIMIT_S, Supervisor
from agent.ops.systemd import Notifier


class Signs:
    """Vital signs that a test sets."""

    def __init__(self) -> None:
        self.is_loaded, self.lane, self.microphone, self.text = True, "", True, "fine"

    def loaded(self) -> bool:
        return self.is_loaded

    def stuck(self) -> str | None:
        return self.lane or None

    def hears(self) -> bool:
        return self.microphone

    def says(self) -> str:
        return self.text


class Watched:
    """A supervisor, its clock, and the service manager's end of its socket."""

    def __init__(self, folder: Path, watchdog_s: float | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.now = 100.0
        self.signs = Signs()
        self.notifier = Notifier(str(folder / "notify"))
        self.supervisor = Supervisor(self.notifier, watchdog_s, self.signs, lambda: self.now)

    def look(self, after_s: float = 0.0) -> list[str]:
        """What is said by a look so much later."""
        self.now += after_s
        self.supervisor.look()
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
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path, 20.0)
    yield made
    made.close()


def test_ready_is_said_once_the_models_are_loaded(watched: Watched) -> None:
    watched.signs.is_loaded = False
    assert "READY=1" not in watched.look()
    assert not watched.supervisor.is_ready
    watched.signs.is_loaded = True
    assert watched.look(1)[0] == "READY=1"
    assert watched.supervisor.is_ready
    assert "READY=1" not in watched.look(1)


def test_loading_is_given_time_in_pieces_and_not_for_ever(watched: Watched) -> None:
    watched.signs.is_loaded = False
    assert "EXTEND_TIMEOUT_USEC=60000000" in watched.look()
    assert watched.look(1) == []
    assert watched.look(9) == ["EXTEND_TIMEOUT_USEC=60000000"]
    assert watched.look(LOADING_LIMIT_S) == []


def test_a_start_whose_lane_hangs_is_given_no_more_time(watched: Watched) -> None:
    watched.signs.is_loaded, watched.signs.lane = False, "the online lane is stuck"
    assert [m for m in watched.look() if m.startswith(("EXTEND", "WATCHDOG", "READY"))] == []


def test_the_watchdog_is_fed_at_half_of_its_period(watched: Watched) -> None:
    assert "WATCHDOG=1" in watched.look()
    assert watched.look(9) == []
    assert watched.look(1) == ["WATCHDOG=1"]


def test_a_stuck_lane_triggers_the_watchdog_and_is_named_in_the_log(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.look()
    watched.signs.lane = "the offline lane has not answered for 31 s"
    assert watched.look(10) == ["WATCHDOG=trigger"]
    assert watched.signs.lane in caplog.text


def test_a_silent_microphone_that_nobody_reopens_starves_the_watchdog(watched: Watched) -> None:
    watched.look()
    watched.signs.microphone = False
    assert watched.look(10) == []
    assert watched.look(5) == []
    watched.signs.microphone = True
    assert watched.look(1) == ["WATCHDOG=1"]


def test_the_status_is_told_when_it_changes(watched: Watched) -> None:
    assert "STATUS=fine" in watched.look()
    assert watched.look(1) == []
    watched.signs.text = "worse"
    assert watched.look(1) == ["STATUS=worse"]


def test_without_a_watchdog_nothing_is_fed_or_triggered(tmp_path: Path) -> None:
    watched = Watched(tmp_path, None)
    assert watched.look() == ["READY=1", "STATUS=fine"]
    watched.signs.lane = "stuck"
    assert watched.look(100) == []
    watched.close()


def test_without_a_service_manager_the_agent_counts_as_started(tmp_path: Path) -> None:
    supervisor = Supervisor(Notifier(), None, Signs())
    supervisor.look()
    assert supervisor.is_ready
