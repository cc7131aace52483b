"""Who is let in, decided for peers that the tests name."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.config import Config
from agent.networks import PRIVATE, is_in, networks_of, parse_address
from agent.web.access import ACCESS, GRANT, Access, guard
from agent.web.doorkeeper import make_runner
from agent.web.errors import errors_as_json
from agent.web.peer import Peer
from agent.web.token import TokenKeeper

TOKEN = "correct-horse-battery"
BOX = ipaddress.ip_address("192.168.1.2")


class Gate:
    """A tiny application behind the guard; the peer is what the test says."""

    def __init__(self, **settings: Any) -> None:
        self.peer = lan("192.168.1.9")
        self.access = Access(
            Config.model_validate(settings), TokenKeeper(TOKEN), peer=lambda request: self.peer
        )
        self.access.serves(["http://0.0.0.0:80/", "https://0.0.0.0:443/"])
        app = web.Application(middlewares=[errors_as_json, guard])
        app[ACCESS] = self.access

        async def say(request: web.Request) -> web.Response:
            return web.Response(text=request[GRANT].value)

        for path in ("/", "/ws", "/health", "/metrics", "/livez", "/api/v1/status"):
            app.router.add_route("*", path, say)
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))

    async def said(self, path: str, **headers: str) -> str:
        """The ground that it was let in on, or the status that it was refused with."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(path, headers=named, allow_redirects=False) as answer:
            return await answer.text() if answer.status == 200 else str(answer.status)

    async def speaks(self, path: str, **headers: str) -> str:
        """The same for a WebSocket's handshake."""
        return await self.said(path, Upgrade="websocket", Connection="Upgrade", **headers)


def lan(address: str, *, tls: bool = True) -> Peer:
    return Peer(ipaddress.ip_address(address), BOX, tls=tls)


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest_asyncio.fixture
async def gate(settings: dict[str, Any]) -> AsyncIterator[Gate]:
    made = Gate(**settings)
    await made.client.start_server()
    yield made
    await made.client.close()


async def test_this_machine_is_free_and_its_socket_is_its_owner_s(gate: Gate) -> None:
    one = ipaddress.ip_address("127.0.0.1")
    gate.peer = Peer(one, one)
    assert await gate.said("/api/v1/status") == "free"
    for name in ("evil.example", "[fffff]", "[::1", "127.0.0.1.example", "a b", "box@127.0.0.1"):
        assert await gate.said("/api/v1/status", Host=name) == "401", name
    for name in ("localhost", "LOCALHOST:80", "[::1]:80", "10.0.0.1", "a.localhost"):
        assert await gate.said("/api/v1/status", Host=name) == "free", name
    assert await gate.said("/api/v1/status", X_Forwarded_For="203.0.113.9") == "401"
    gate.peer = Peer(None, None, unix=True)
    assert await gate.said("/api/v1/status") == "owner"
    gate.peer = Peer(None, None)
    assert await gate.said("/api/v1/status") == "401"


@pytest.mark.parametrize("settings", [{"auth": "open"}])
async def test_open_is_open(gate: Gate) -> None:
    assert await gate.said("/api/v1/status") == "free"
    assert await gate.speaks("/ws", Origin="https://evil.example") == "403"


async def test_every_way_to_show_the_token(gate: Gate) -> None:
    assert await gate.said("/api/v1/status", Authorization=f"Bearer {TOKEN}") == "token"
    assert await gate.said("/api/v1/status", Authorization=f"bearer  {TOKEN}") == "token"
    assert await gate.said(f"/api/v1/status?token={TOKEN}") == "token"
    cookie = f"__Host-funasr-agent={gate.access.tokens.make_cookie(1)}"
    assert await gate.said("/api/v1/status", Cookie=cookie) == "cookie"
    gate.peer = lan("192.168.1.9", tls=False)
    assert await gate.said("/api/v1/status", Cookie=cookie) == "401"


@pytest.mark.parametrize("settings", [{"auth": {"attempts_per_minute": 2}}])
async def test_the_right_token_waits_too_after_wrong_ones(gate: Gate) -> None:
    cookie = f"__Host-funasr-agent={gate.access.tokens.make_cookie(1)}"
    for _ in range(2):
        assert await gate.said("/api/v1/status?token=wrong") == "401"
    assert await gate.said("/api/v1/status?token=wrong") == "429"
    assert await gate.said(f"/api/v1/status?token={TOKEN}") == "429"
    assert await gate.said("/api/v1/status", Cookie=cookie) == "cookie"
    assert await gate.said("/api/v1/status") == "401"
    gate.peer = lan("192.168.1.10")
    assert await gate.said(f"/api/v1/status?token={TOKEN}") == "token"


async def test_funasr_clients_of_private_networks_reach_their_protocol_only(gate: Gate) -> None:
    for near in ("192.168.1.9", "10.1.2.3", "172.31.0.1", "169.254.3.3", "fd00::5", "fe80::1"):
        gate.peer = lan(near)
        assert await gate.speaks("/") == "funasr"
        assert await gate.speaks("/ws") == "funasr"
        assert await gate.said("/") == "401"
        assert await gate.speaks("/api/v1/status") == "401"
    for far in ("203.0.113.9", "172.32.0.1", "2001:db8::1"):
        gate.peer = lan(far)
        assert await gate.speaks("/ws") == "401"
        assert await gate.speaks("/ws", Authorization=f"Bearer {TOKEN}") == "token"


@pytest.mark.parametrize(
    "settings", [{"funasr": {"allow": ["10.0.0.0/8"]}, "auth": {"open_metrics": "private"}}]
)
async def test_networks_are_those_of_the_configuration(gate: Gate) -> None:
    assert await gate.speaks("/ws") == "401"
    assert await gate.said("/metrics") == "metrics"
    assert await gate.said("/health") == "metrics"
    assert await gate.said("/api/v1/status") == "401"
    gate.peer = lan("10.9.9.9")
    assert await gate.speaks("/ws") == "funasr"


async def test_browsers_go_to_the_sign_in_and_from_plain_http_to_https(gate: Gate) -> None:
    browser = {"Accept": "text/html", "Host": "box.local"}
    assert await gate.said("/", **browser) == "303"
    gate.peer = lan("192.168.1.9", tls=False)
    headers = {"Accept": "text/html", "Host": "box.local:80"}
    async with gate.client.get("/?a=1", headers=headers, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "https://box.local/?a=1")
    assert await gate.said("/livez", **browser) == "nobody"
    assert await gate.said("/api/v1/status", Authorization=f"Bearer {TOKEN}") == "token"


async def test_without_a_tls_listener_that_is_reached_nobody_is_sent_away(gate: Gate) -> None:
    gate.peer = lan("192.168.1.9", tls=False)
    gate.access.serves(["http://0.0.0.0:80/", "https://127.0.0.1:443/", "https://192.168.7.7:1/"])
    assert await gate.said("/", Accept="text/html") == "303"
    gate.access.serves(["https://192.168.1.2:8443/"])
    assert await gate.said("/", Accept="text/html") == "307"


async def test_foreign_pages_are_refused_before_anything_else(gate: Gate) -> None:
    for origin in ("https://evil.example", "null", "http://box.local:81", "x", "https://["):
        assert await gate.speaks("/ws", Origin=origin, Host="box.local") == "403"
    assert await gate.speaks("/ws", Origin="https://box.local", Host="BOX.local") == "funasr"


def test_words_for_networks() -> None:
    assert networks_of("off") == ()
    assert networks_of("private") == PRIVATE
    allow = Config.model_validate({"funasr": {"allow": False}}).funasr.allow
    assert allow == "off"
    listed = Config.model_validate({"funasr": {"allow": "10.0.0.0/8, 192.168.1.7"}}).funasr.allow
    assert is_in(parse_address("192.168.1.7"), networks_of(listed))
    assert not is_in(parse_address("192.168.1.8"), networks_of(listed))
    assert is_in(parse_address("::ffff:10.0.0.1"), networks_of("private"))
    assert is_in(parse_address("fe80::1%eth0"), networks_of("private"))
    assert not is_in(parse_address("nonsense"), networks_of("private"))
    with pytest.raises(ValueError, match="'home' is no network"):
        Config.model_validate({"funasr": {"allow": "home"}})


async def test_a_malformed_request_is_logged_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = make_runner(web.Application(), 1)
    await runner.setup()
    log = logging.getLogger("agent.web.server")
    for line in (b"GET /?token=secret HTTP/9\r\n\r\n", b"GET /\x01?token=secret HTTP/1.1\r\n\r\n"):
        assert runner.server is not None
        handler = runner.server()
        with caplog.at_level(logging.DEBUG, logger=log.name):
            try:
                handler._parser.feed_data(line)
            except Exception as error:
                log.exception("Error handling request from 192.0.2.1", exc_info=error)
    await runner.cleanup()
    assert "a malformed request was refused" in caplog.text
    assert "secret" not in caplog.text
