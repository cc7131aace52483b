"""What a hostile host on the LAN tries, and what it gets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import aiohttp
import pytest

from tests.end_to_end.daemon import Daemon
from tests.lan import BROWSER, Answer, Ask, OtherHost, socket_ask
from tests.model_loading.tables import add_row

LISTEN = "listen=[{host: 0.0.0.0, port: 0}, {host: 0.0.0.0, port: 0, tls: true}]"
ESCAPES = (
    "/static/../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/static//etc/passwd",
    "/sign-in/../api/v1/status",
    "/sign-in/%2e%2e/api/v1/status",
    "/sign-in/..%2fapi%2fv1%2fstatus",
    "/sign-in/../../token",
    "//api/v1/status",
    "/API/V1/STATUS",
    "/livez/../api/v1/status",
    "/livez%2f..%2fapi/v1/status",
    "/readyz;/api/v1/status",
    "/sign-in/%00",
    "/sign-in/" + "a" * 5000,
)
HOSTILE_NAME = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def host() -> Iterator[OtherHost]:
    if reason := OtherHost.missing():
        pytest.skip(reason)
    with OtherHost() as made:
        yield made


class Target:
    """The daemon that is attacked."""

    def __init__(self, daemon: Daemon, host: OtherHost) -> None:
        self.daemon, self.host = daemon, host
        ports = [int(address.rsplit(":", 1)[1].strip("/")) for address in daemon.addresses]
        self.port = ports[0]
        self.plain, self.tls = f"http://{host.box}:{ports[0]}", f"https://{host.box}:{ports[1]}"
        self.local = f"http://127.0.0.1:{ports[0]}"
        self.token = (daemon.state_dir / "token").read_text().strip()

    def ask(self, *asks: Ask) -> list[Answer]:
        return self.host.ask(asks)

    def raw(self, data: bytes) -> bytes:
        """What comes back for bytes, up to the end of the connection."""
        got = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), 10) as link:
            link.sendall(data)
            try:
                while block := link.recv(65536):
                    got += block
            except (ConnectionResetError, TimeoutError):
                pass
        return bytes(got)


@pytest.fixture(scope="module")
def target(host: OtherHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with Daemon(tmp_path_factory.mktemp("attacked"), LISTEN, listeners=2) as daemon:
        yield Target(daemon, host)


def told(attack: str, answer: object) -> None:
    """A line of the list that is printed at the end of the run."""
    add_row("attacks", (attack, str(answer)))


def count(answers: list[Answer]) -> str:
    """How often each status was given."""
    found = Counter(answer.status for answer in answers)
    return ", ".join(f"{times} x {status}" for status, times in sorted(found.items()))


def test_path_escapes_lead_nowhere(target: Target) -> None:
    answers = target.ask(*(Ask(target.plain + path) for path in ESCAPES))
    assert {a.status for a in answers} <= {400, 401, 403, 404}
    signed_in = {"Authorization": f"Bearer {target.token}"}
    inside = target.ask(*(Ask(target.plain + path, headers=signed_in) for path in ESCAPES))
    assert all("root:" not in a.body and target.token not in a.body for a in inside)
    told("path escapes without the token", count(answers))
    told("path escapes with the token", count(inside))


def test_a_name_that_resolves_to_the_box_is_no_way_in(target: Target) -> None:
    for name in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1].evil", ""):
        got = target.raw(f"GET /api/v1/status HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        assert got.split()[1] in (b"401", b"400"), name
    for name in ("127.0.0.1", f"localhost:{target.port}", socket.gethostname()):
        got = target.raw(f"GET /api/v1/status HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        assert got.split()[1] == b"200", name
    proxied = b"GET /api/v1/status HTTP/1.0\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
    assert target.raw(proxied).split()[1] == b"401"
    told("DNS rebinding: a foreign Host on loopback", 401)
    told("a proxy on the box that hands on strangers", 401)


def test_pages_of_other_sites_are_refused(target: Target) -> None:
    bearer = {"Authorization": f"Bearer {target.token}"}
    origins = ("https://evil.example", "null", target.plain.replace("http", "https"), "x:", "//")
    for origin in origins[:2]:
        headers = {"Origin": origin, **bearer}
        answers = target.ask(
            socket_ask(target.plain + "/api/v1/events", **headers),
            socket_ask(target.plain + "/", **headers),
            Ask(target.plain + "/v1/audio/transcriptions", "POST", headers),
            Ask(target.plain + "/api/v1/models/vad", "DELETE", headers),
            Ask(target.plain + "/sign-in", "POST", {"Origin": origin}, '{"token": "x"}'),
        )
        assert {a.status for a in answers} == {403}, origin
    told("foreign Origin on sockets, POST, DELETE", 403)


def test_headers_can_not_be_injected(target: Target) -> None:
    evil = "/%0d%0aSet-Cookie:%20a=b?next=%0d%0aX-Evil:%201"
    for base in (target.plain, target.tls):
        (answer,) = target.ask(Ask(base + evil, headers=BROWSER))
        assert answer.status in (303, 307)
        assert {"x-evil", "set-cookie"}.isdisjoint(answer.headers)
    for data in (
        b"GET / HTTP/1.1\r\nHost: a\rX-Evil: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3"
        b"\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    ):
        got = target.raw(data)
        assert b" 400 " in got.partition(b"\r\n")[0], (data, got)
        assert b"X-Evil" not in got.partition(b"\r\n\r\n")[0]
    told("header injection, smuggling, TLS on a plain port", 400)


def test_what_is_too_long_is_refused(target: Target) -> None:
    long = "a" * 100_000
    assert target.raw(f"GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())[9:12] == b"400"
    head = f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"
    assert target.raw(head.encode())[9:12] == b"400"
    many = "".join(f"X-{i}: 1\r\n" for i in range(5000))
    assert target.raw(f"GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode())[9:12] == b"400"
    big = json.dumps({"token": "x" * 100_000})
    (answer,) = target.ask(Ask(target.tls + "/sign-in", "POST", body=big))
    assert answer.status == 400
    huge = {"Content-Length": str(1 << 40)}
    (answer,) = target.ask(Ask(target.plain + "/v1/audio/transcriptions", "POST", huge))
    assert answer.status == 401
    told("oversized line, header, header count, sign-in body", 400)
    told("a body of 1 TiB without the token", answer.status)
    told("an oversized frame", f"close {oversized_frame(target.port)}")


def oversized_frame(port: int) -> int:
    """The close code for the head of a frame of 5 MiB."""
    head = (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    frame = b"\x82\xff" + struct.pack(">Q", 5 << 20) + bytes(4) + bytes(1000)
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port), 20) as link:
        link.sendall(head.encode() + frame)
        while not (found := re.search(rb"\x88.(..)", got, re.S)):
            block = link.recv(4096)
            assert block, bytes(got)
            got += block
    code: int = struct.unpack(">H", found[1])[0]
    assert code == 1009
    return code


def test_slow_clients_keep_nobody_out(target: Target) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", target.port), 10))
            for _ in range(300)
        ]
        for link in slow:
            link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        asked = time.monotonic()
        assert target.ask(Ask(target.plain + "/livez"))[0].status == 200
        told("300 slow heads at once: /livez answers in", f"{time.monotonic() - asked:.1f} s")


def test_marks_of_html_stay_text(target: Target) -> None:
    got = asyncio.run(funasr(target.local, HOSTILE_NAME))
    assert got["wav_name"] == HOSTILE_NAME
    (answer,) = target.ask(Ask(f"{target.tls}/sign-in/{'<script>alert(1)</script>'}"))
    assert answer.status in (400, 401, 404)
    assert answer.headers["content-type"].startswith(("application/json", "text/plain"))
    (page,) = target.ask(Ask(target.tls + "/sign-in"))
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", page.body)
    told("script in wav_name, hotwords, paths", "stays text; no inline script runs (CSP)")


async def funasr(url: str, name: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as http, http.ws_connect(url + "/ws") as link:
        await link.send_json({"mode": "offline", "wav_name": name, "hotwords": f'{{"{name}": 20}}'})
        await link.send_bytes(bytes(32000))
        await link.send_json({"is_speaking": False})
        answer: dict[str, object] = await link.receive_json(timeout=30)
        return answer


def test_a_handshake_that_never_ends_holds_up_no_other(target: Target) -> None:
    port = int(target.tls.rsplit(":", 1)[1])
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as silent:
        silent.sendall(b"\x16\x03\x01")
        with (
            socket.create_connection(("127.0.0.1", port), 10) as link,
            trust.wrap_socket(link) as good,
        ):
            assert good.version() in ("TLSv1.2", "TLSv1.3")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port), 10) as link,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(link)
    told("TLS 1.1", "handshake refused")


def test_a_thousand_guesses_are_stopped_after_ten(target: Target) -> None:
    status = target.plain + "/api/v1/status"
    cookie = target.ask(
        Ask(target.tls + "/sign-in", "POST", body=json.dumps({"token": target.token}))
    )[0].headers["set-cookie"]
    guesses = [Ask(f"{status}?token=guess-{i:016}") for i in range(500)]
    guesses += [Ask(status, headers={"Authorization": f"Bearer guess-{i:016}"}) for i in range(490)]
    guesses += [
        Ask(target.tls + "/sign-in", "POST", body=f'{{"token": "guess-{i}"}}') for i in range(10)
    ]
    began = time.monotonic()
    answers = target.ask(*guesses)
    refilled = (time.monotonic() - began) * 10 / 60
    counts = Counter(a.status for a in answers)
    assert set(counts) == {401, 429}
    assert counts[401] <= 11 + refilled
    last = answers[-1]
    assert 1 <= int(last.headers["retry-after"]) <= 60
    right, signed_in = target.ask(
        Ask(f"{status}?token={target.token}"),
        Ask(target.tls + "/api/v1/status", headers={"Cookie": cookie.partition(";")[0]}),
    )
    assert right.status in (200, 429)
    assert signed_in.status == 200
    told("1000 guesses of the token", count(answers))
    told("who is signed in at the same address meanwhile", signed_in.status)


def test_the_token_is_in_no_log(target: Target) -> None:
    target.raw(f"GET /?token={target.token} HTTP/9.9\r\n\r\n".encode())
    target.raw(f"GET /?token={target.token}\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    with socket.create_connection(("127.0.0.1", target.port), 10) as link:  # breaks off
        link.sendall(f"POST /api/v1/models?token={target.token} HTTP/1.1\r\nHost: a\r\n".encode())
    log = target.daemon.log()
    assert target.token not in log
    assert "Traceback" not in log
    assert target.daemon.get("/health")[0] == 200
    told("the token in the log, malformed requests included", "nowhere")
