"""Signing in and out, the token for the box's own commands, and what a changed token ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from agent.config import Config
from agent.web.access import Access
from agent.web.certificates import CertificateKeeper
from agent.web.doorkeeper import _limit, make_runner
from agent.web.peer import Peer
from agent.web.sign_in import CERTIFICATES, watch_token
from agent.web.token import TokenKeeper, read_token, write_token
from tests.unit.web.conftest import Box

TOKEN = "correct-horse-battery"
LAN = Peer(ipaddress.ip_address("192.168.1.9"), ipaddress.ip_address("192.168.1.2"), tls=True)
OWNER = Peer(None, None, unix=True)


class LanBox(Box):
    """The whole application, asked by a peer that the test names."""

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config, folder)
        self.peer = LAN
        self.access = Access(config, TokenKeeper(TOKEN), peer=lambda request: self.peer)

    @property
    def app(self) -> web.Application:
        server = self.client.server
        assert isinstance(server, TestServer)
        return server.app


@pytest_asyncio.fixture
async def box(tmp_path: Path) -> AsyncIterator[LanBox]:
    made = LanBox(Config.model_validate({"state_dir": tmp_path / "state"}), tmp_path)
    await made.start()
    yield made
    await made.stop()


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def post(box: LanBox, body: Any, **more: Any) -> tuple[int, Any]:
    async with box.client.post("/sign-in", json=body, **more) as answer:
        return answer.status, answer.headers


@pytest.mark.parametrize("body", [{}, [], "x", {"token": 5}, {"token": TOKEN, "next": "/"}])
async def test_a_body_that_is_no_sign_in_is_400(box: LanBox, body: Any) -> None:
    assert (await post(box, body))[0] == 400


async def test_signing_out_takes_the_cookie_back(box: LanBox) -> None:
    status, headers = await post(box, {"token": TOKEN})
    assert status == 204
    cookie = headers["Set-Cookie"].partition(";")[0]
    async with box.client.delete("/sign-in", headers={"Cookie": cookie}) as answer:
        assert answer.status == 204
        assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert answer.headers["Set-Cookie"].startswith('__Host-funasr-agent="";')


async def test_what_the_page_says_of_the_box(box: LanBox, tmp_path: Path) -> None:
    async with box.client.get("/sign-in/about") as answer:
        about = await answer.json()
    assert about["name"] == socket.gethostname()
    assert (about["signed_in"], about["can_sign_in"], about["sha256"]) == (False, True, None)
    async with box.client.get("/sign-in/certificate.crt") as answer:
        assert answer.status == 404
    async with box.client.get("/sign-in/other") as answer:
        assert answer.status == 404


async def test_a_changed_token_ends_the_sockets_that_the_old_one_opened(box: LanBox) -> None:
    signed_in = await box.client.ws_connect("/api/v1/events", headers=BEARER)
    funasr = await box.client.ws_connect("/ws")
    await signed_in.receive_json(timeout=10)
    box.peer = OWNER
    async with box.client.post("/api/v1/token") as answer:
        made = (await answer.json())["token"]
    assert read_token(box.live.current.state_dir) == made
    while (message := await signed_in.receive(timeout=10)).type is not WSMsgType.CLOSE:
        continue
    assert (message.data, "sign in again" in message.extra) == (1008, True)
    box.peer = LAN
    await funasr.send_json({"mode": "offline"})
    await funasr.send_json({"is_speaking": False})
    assert (await funasr.receive_json(timeout=10))["is_final"]
    await funasr.close()
    async with box.client.get("/api/v1/status", headers=BEARER) as answer:
        assert answer.status == 401


async def test_the_token_is_told_on_the_unix_socket_only(box: LanBox) -> None:
    one = ipaddress.ip_address("127.0.0.1")
    for peer, status in ((OWNER, 200), (Peer(one, one), 403), (LAN, 403)):
        box.peer = peer
        for method in ("GET", "POST") if peer is not OWNER else ("GET",):
            async with box.client.request(method, "/api/v1/token", headers=BEARER) as answer:
                assert answer.status == status


async def test_a_token_that_is_put_into_the_folder_is_taken(
    box: LanBox, caplog: pytest.LogCaptureFixture
) -> None:
    watching = asyncio.create_task(watch_token(box.app, 0.01))
    box.live.current.state_dir.mkdir(exist_ok=True)
    (box.live.current.state_dir / "token").write_text("short\n")
    await until(lambda: "16 to 256" in caplog.text)
    write_token(box.live.current.state_dir, "another-horse-battery")
    assert box.access is not None
    keeper = box.access.tokens
    await until(lambda: keeper.is_token("another-horse-battery"))
    watching.cancel()
    assert caplog.text.count("the token in force stays") == 1
    assert "another-horse" not in caplog.text


async def until(there: Any) -> None:
    for _ in range(1000):
        if there():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def test_the_authority_is_offered_where_the_box_has_its_own(tmp_path: Path) -> None:
    config = Config.model_validate({"state_dir": tmp_path / "state"})
    keeper = CertificateKeeper(config)
    keeper.load()
    box = LanBox(config, tmp_path)
    await box.start()
    box.app._state[CERTIFICATES] = keeper  # as the application has it with a TLS listener
    async with box.client.get("/sign-in/certificate.crt") as answer:
        assert await answer.read() == (tmp_path / "state" / "tls" / "ca.pem").read_bytes()
        assert answer.content_type == "application/x-x509-ca-cert"
    async with box.client.get("/sign-in/about") as answer:
        about = await answer.json()
    assert about["own_authority"]
    assert len(about["sha256"]) == len(about["authority_sha256"]) == 95
    await box.stop()


async def test_every_answer_has_the_security_headers(box: LanBox) -> None:
    for path, status in (("/sign-in", 200), ("/", 401), ("/sign-in/none", 404)):
        async with box.client.get(path) as answer:
            assert answer.status == status
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] in ("no-cache", "no-store")


class FakeTransport:
    """A connection of an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.aborted = False

    def get_extra_info(self, name: str) -> tuple[str, int]:
        assert name == "peername"
        return self._address, 5000

    def abort(self) -> None:
        self.aborted = True


async def test_an_address_holds_so_many_connections_and_no_more() -> None:
    async def hello(request: web.BaseRequest) -> web.Response:
        return web.Response()

    server = web.Server(hello)
    _limit(server, 2)

    def connect(address: str) -> tuple[object, FakeTransport]:
        handler, transport = server(), FakeTransport(address)
        server.connection_made(handler, transport)  # type: ignore[arg-type]
        return handler, transport

    first, _ = connect("192.168.1.9")
    kept = [connect("192.168.1.9")[1], connect("192.168.1.10")[1]]
    kept += [connect("127.0.0.1")[1] for _ in range(5)]
    over, refused = connect("192.168.1.9")
    assert refused.aborted
    assert not any(transport.aborted for transport in kept)
    for gone in (over, first):
        server.connection_lost(gone)  # type: ignore[arg-type]
    assert not connect("192.168.1.9")[1].aborted


async def test_a_head_that_never_ends_is_given_up() -> None:
    runner = make_runner(web.Application(), 1)
    runner._kwargs["keepalive_timeout"] = 0.3
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        try:
            writer.write(b"X-Slow: 1\r\n")
            await writer.drain()
        except ConnectionError:
            break
        await asyncio.sleep(0.05)
    await asyncio.gather(closed, return_exceptions=True)
    writer.close()
    await runner.cleanup()
