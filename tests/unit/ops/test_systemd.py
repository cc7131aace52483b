"""What is said to the service manager, over real datagram sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ops.systemd import Notifier, inherited_sockets, watchdog_period_s


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(5)

    def heard(self) -> str:
        return self._socket.recv(65536).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    made = Manager(path if request.param == "path" else f"@funasr-agent-test-{uuid.uuid4()}")
    yield made
    made.close()


def test_every_message_arrives_in_systemds_words(manager: Manager) -> None:
    notifier = Notifier(manager.address, clock_ns=lambda: 7_000_999)
    for say, expected in (
        (notifier.ready, "READY=1"),
        (lambda: notifier.status("two\nlines  and\tmore"), "STATUS=two lines and more"),
        (notifier.stopping, "STOPPING=1"),
        (notifier.reloading, "RELOADING=1\nMONOTONIC_USEC=7000"),
        (lambda: notifier.extend(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
        (notifier.watchdog, "WATCHDOG=1"),
        (notifier.trigger_watchdog, "WATCHDOG=trigger"),
    ):
        assert say()
        assert manager.heard() == expected
    notifier.close()


def test_a_long_status_is_cut(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    assert notifier.status("x" * 100_000)
    assert len(manager.heard()) == len("STATUS=") + 1000
    notifier.close()


def test_the_address_is_taken_out_of_the_environment(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "PATH": "/bin"}
    notifier = Notifier.from_environment(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.ready()
    assert manager.heard() == "READY=1"
    notifier.close()


def test_without_a_service_manager_nothing_is_said_and_nothing_fails() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.is_heard
    assert not notifier.ready()


def test_a_manager_that_is_gone_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert [record.message for record in caplog.records] == [
        "the service manager can't be told 'READY=1': [Errno 2] No such file or directory"
    ]
    notifier.close()


def test_a_full_queue_loses_a_message_instead_of_blocking(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.address)
    said = 0
    while notifier.watchdog():
        said += 1
        assert said < 100_000
    assert said > 0
    manager.heard()
    assert notifier.watchdog()
    manager.close()
    notifier.close()


def test_the_watchdogs_period_is_for_the_process_that_it_names() -> None:
    assert watchdog_period_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 30.0
    assert watchdog_period_s({"WATCHDOG_USEC": "30000000"}, 7) == 30.0
    assert watchdog_period_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 7) is None
    assert watchdog_period_s({"WATCHDOG_USEC": "0"}, 7) is None
    assert watchdog_period_s({"WATCHDOG_USEC": "soon"}, 7) is None
    assert watchdog_period_s({}, 7) is None


def test_sockets_that_systemd_opened_are_taken_over() -> None:
    code = (
        "import os\n"
        "from agent.ops.systemd import inherited_sockets\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "(got,) = inherited_sockets(os.environ, os.getpid())\n"
        "print(got.getsockname()[1], got.get_inheritable(), 'LISTEN_FDS' in os.environ)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        wanted = server.getsockname()[1]
        # A shell puts the socket where systemd would: on descriptor 3.
        done = subprocess.run(
            [
                "bash",
                "-c",
                f'exec 3<&{server.fileno()}; exec "$@"',
                "-",
                sys.executable,
                "-c",
                code,
            ],
            pass_fds=[server.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.split() == [str(wanted), "False", "False"], done.stderr


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}
    assert inherited_sockets(environ, os.getpid()) == []
    assert environ == {}
