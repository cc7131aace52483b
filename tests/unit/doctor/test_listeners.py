"""Certificate and ports of the listeners: each fault in turn."""

from __future__ import annotations

import datetime
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent import __version__
from agent.config import Config, Listener, Tls
from agent.doctor.box import Box
from agent.doctor.certificate import check_certificate, matches
from agent.doctor.daemon import RunningAgent, ask_port, find_daemon
from agent.doctor.ports import check_ports
from agent.web.tls import NOT_BEFORE, VALID_DAYS, make_certificate
from tests.unit.doctor.boxes import line

# Certificate.


def tls(state: Path, cert: Path | None = None, key: Path | None = None) -> Config:
    return Config(
        listen=[Listener(port=8443, tls=True)], state_dir=state, tls=Tls(cert=cert, key=key)
    )


def on_day(days: int) -> Box:
    return Box(now=lambda: (NOT_BEFORE + datetime.timedelta(days=days)).timestamp())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for `box` and its key, as the agent makes and keeps them."""
    folder = tmp_path / "tls"
    folder.mkdir()
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert_data, key_data = make_certificate("box", ["192.0.2.7"])
    cert.write_bytes(cert_data)
    key.write_bytes(key_data)
    key.chmod(0o600)
    return cert, key


def test_without_tls_or_before_the_first_start_no_certificate_is_needed(tmp_path: Path) -> None:
    assert "not needed" in line(check_certificate(Config(), Box()))[1]
    status, seen, _ = line(check_certificate(tls(tmp_path), Box()))
    assert (status, "made in" in seen) == ("ok", True)
    assert list(tmp_path.iterdir()) == []


def test_a_good_certificate_is_told_with_its_names_and_end(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    for config in (tls(tmp_path), tls(tmp_path / "other", *pair)):
        status, seen, _ = line(check_certificate(config, on_day(100), "box"))
        assert status == "ok"
        assert "box.local" in seen
        assert "192.0.2.7" in seen
        assert "valid to 2028" in seen


@pytest.mark.parametrize(
    ("day", "status", "words"),
    [
        (VALID_DAYS + 3, "failure", "expired 3 days ago"),
        (VALID_DAYS - 10, "warning", "expires in 10 days"),
        (-400, "failure", "not valid before 2026-01-01"),
    ],
)
def test_the_dates_of_a_certificate_are_held_against_the_clock(
    tmp_path: Path, pair: tuple[Path, Path], day: int, status: str, words: str
) -> None:
    found = line(check_certificate(tls(tmp_path), on_day(day), "box"))
    assert found[0] == status
    assert words in found[1]
    assert found[2]


def test_a_certificate_for_another_name_or_with_an_open_key_is_told(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    pair[1].chmod(0o644)
    status, seen, advice = line(check_certificate(tls(tmp_path), on_day(9), "kitchen"))
    assert status == "warning"
    assert "not for kitchen or kitchen.local" in seen
    assert "others may read" in seen
    assert f"chmod 600 {pair[1]}" in advice


def spoil(pair: tuple[Path, Path], how: str) -> None:
    cert, key = pair
    if how == "foreign":
        key.write_bytes(make_certificate("box", [])[1])
    elif how == "garbage":
        cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    elif how == "missing":
        key.unlink()
    else:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(private.private_bytes(pem, pkcs8, locked))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("foreign", "is not the key of"),
        ("garbage", "not a certificate and key in PEM"),
        ("missing", "no such file"),
        ("password", "has a password"),
    ],
)
def test_a_configured_pair_that_can_not_be_used_is_a_failure(
    tmp_path: Path, pair: tuple[Path, Path], how: str, words: str
) -> None:
    spoil(pair, how)
    status, seen, advice = line(check_certificate(tls(tmp_path / "o", *pair), on_day(9), "box"))
    assert status == "failure"
    assert words in seen
    assert advice


def test_a_damaged_pair_of_the_agents_own_is_made_anew_by_it(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    spoil(pair, "garbage")
    status, _, advice = line(check_certificate(tls(tmp_path), on_day(9), "box"))
    assert (status, "makes a new one" in advice) == ("warning", True)


def test_a_star_covers_one_label() -> None:
    assert matches("a.example.org", "*.example.org")
    assert not matches("a.b.example.org", "*.example.org")
    assert matches("Box.local.", "box.LOCAL")


# Ports.


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """A port where every connection gets `answer` whatever it asks; None: silence."""
    with socket.create_server(("127.0.0.1", 0)) as link:
        held: list[socket.socket] = []
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = link.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield link.getsockname()[1]
        done.set()
        link.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def http(body: str, status: int = 200) -> bytes:
    return f"HTTP/1.0 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def port_line(port: int, holder: str = "nginx (process 5)") -> tuple[str, str, str]:
    config = Config(listen=[Listener(port=port)])
    return line(check_ports(config, lambda port: holder))


def test_a_free_port_is_fine_and_stays_free() -> None:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port = link.getsockname()[1]
    assert port_line(port)[:2] == ("ok", "free on 127.0.0.1")
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert "the system chooses" in port_line(0)[1]


def test_a_port_that_another_program_has_is_a_failure_with_its_name() -> None:
    with server(http("hello")) as port:
        status, seen, advice = port_line(port)
        assert status == "failure"
        assert "taken on 127.0.0.1 by nginx (process 5)" in seen
        assert "listen.0.port" in advice
        assert "another program (run the check with sudo" in port_line(port, "")[1]


def test_the_holder_of_a_port_is_found_by_the_system() -> None:
    with server(http("hello")) as port:
        _, seen, _ = line(check_ports(Config(listen=[Listener(port=port)])))
        assert f"(process {os.getpid()})" in seen


def test_a_program_that_says_nothing_holds_up_nobody() -> None:
    with server(None) as port:
        config = Config(listen=[Listener(port=port)])
        started = time.monotonic()
        found = check_ports(config, ask=lambda listener: ask_port(listener, limit_s=0.2))
        assert line(found)[0] == "failure"
        assert time.monotonic() - started < 3


def test_a_low_port_without_the_right_to_it_is_told() -> None:
    def refuse(listener: Listener) -> OSError:
        return PermissionError(errno.EACCES, "Permission denied")

    config = Config(listen=[Listener(port=443)])
    status, seen, advice = line(check_ports(config, ask=lambda listener: None, bind=refuse))
    assert (status, "may not open ports below 1024" in seen) == ("failure", True)
    assert "CAP_NET_BIND_SERVICE" in advice
    ours = RunningAgent(__version__)
    assert line(check_ports(config, ask=lambda listener: ours, bind=refuse))[0] == "ok"


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        (__version__, "ok", f"funasr-agent {__version__} serves on 127.0.0.1"),
        ("0.0.1", "warning", f"funasr-agent 0.0.1 serves on 127.0.0.1, {__version__} is installed"),
    ],
)
def test_our_own_agent_on_the_port_is_recognised(version: str, status: str, words: str) -> None:
    with agent_like(version) as port:
        found = port_line(port)
        assert found[0] == status
        assert words in found[1]


@contextmanager
def agent_like(version: str) -> Iterator[int]:
    """A server that answers /livez and /api/v1/status as an agent does."""
    status = f'{{"version": "{version}", "hardware": {{"process_mb": 321}}}}'
    answers = {b"/livez": http("live\n"), b"/api/v1/status": http(status)}
    with socket.create_server(("127.0.0.1", 0)) as link:

        def serve() -> None:
            while True:
                try:
                    connection, _ = link.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answers[connection.recv(4096).split()[1]])

        threading.Thread(target=serve, daemon=True).start()
        yield link.getsockname()[1]
        link.shutdown(socket.SHUT_RDWR)


def test_the_running_agent_tells_its_memory(tmp_path: Path) -> None:
    with agent_like("1") as port:
        config = Config(listen=[Listener(port=port)], state_dir=tmp_path)
        found = find_daemon(config, ask_port)
    assert found is not None
    assert found.process_mb == 321
    assert find_daemon(config, ask_port) is None


def test_an_agent_is_found_by_its_unix_socket(tmp_path: Path) -> None:
    config = Config(listen=[Listener(port=0)], run_dir=tmp_path)
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(tmp_path / "agent.sock"))
        link.listen()

        def serve() -> None:
            for answer in (http("live\n"), http("token please", 401)):
                connection, _ = link.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert find_daemon(config, ask_port) is not None
        thread.join(5)


def test_an_address_of_another_machine_is_told_with_its_key() -> None:
    config = Config(listen=[Listener(host="192.0.2.99", port=18080)], auth="open")
    status, seen, advice = line(check_ports(config))
    assert (status, "no address 192.0.2.99" in seen) == ("failure", True)
    assert "listen.0.host" in advice
