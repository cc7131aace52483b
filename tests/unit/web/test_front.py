"""What a reload changes of the web side: token, rules, certificate, who is let in; real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import WSCloseCode

from agent.config import Config
from agent.errors import ConfigError
from agent.live_config import LiveConfig
from agent.web.front import Front
from agent.web.token import write_token
from tests.fakes import silence, tone
from tests.unit.web.conftest import Box

TOKEN = "correct-horse-battery"
WAIT_S = 10.0
ELSEWHERE = {"X-Forwarded-For": "192.168.1.9"}
"""What a proxy on this machine hands on is not from this machine: it needs the token."""
OPEN = {"mode": "open"}


class House:
    """The real web side over the fake parts of a box."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.state = folder / "front"
        self.box = box

    async def start(self, **settings: Any) -> str:
        """The address of the first listener."""
        write_token(self.state, TOKEN)
        live = LiveConfig(self.config(**settings))
        self.front = Front(replace(self.box.context, live=live))
        return (await self.front.open())[0]

    async def reload(self, **settings: Any) -> None:
        (await self.front.prepare(self.config(**settings))).commit()

    def config(self, **settings: Any) -> Config:
        return Config.model_validate({"listen": [{"port": 0}], "state_dir": self.state, **settings})

    async def stop(self) -> None:
        await self.front.close()


@pytest_asyncio.fixture
async def house(box: Box, tmp_path: Path) -> AsyncIterator[House]:
    made = House(box, tmp_path)
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def status(http: aiohttp.ClientSession, url: str, **headers: str) -> int:
    named = {**ELSEWHERE, **headers}
    async with http.get(url + "api/v1/status", headers=named) as answer:
        return answer.status


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_rules_that_a_reload_changes_apply_to_the_next_request(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start()
    assert await status(http, url) == 401
    await house.reload(auth=OPEN)
    assert await status(http, url) == 200
    await house.reload()
    assert await status(http, url) == 401
    async with http.get(url + "health", headers=ELSEWHERE) as answer:
        assert answer.status == 401
    await house.reload(auth={"open_metrics": ["127.0.0.0/8"]})
    async with http.get(url + "health", headers=ELSEWHERE) as answer:
        assert answer.status == 200


async def test_a_new_token_of_the_state_folder_is_taken_at_once_and_the_old_one_is_out(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start()
    headers = {**ELSEWHERE, **bearer(TOKEN)}
    async with http.ws_connect(url + "api/v1/events", headers=headers) as events:
        write_token(house.state, "another-horse-battery")
        await house.reload()
        assert await status(http, url, **bearer(TOKEN)) == 401
        assert await status(http, url, **bearer("another-horse-battery")) == 200
        assert await close_code(events) == WSCloseCode.POLICY_VIOLATION


async def test_who_would_not_be_let_in_any_more_is_out_and_who_would_be_stays(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start(auth=OPEN)
    async with (
        http.ws_connect(url + "api/v1/events", headers=ELSEWHERE) as anybody,
        http.ws_connect(url + "api/v1/events", headers={**ELSEWHERE, **bearer(TOKEN)}) as known,
        http.ws_connect(url + "api/v1/events") as here,
    ):
        await house.reload()
        assert await close_code(anybody) == WSCloseCode.POLICY_VIOLATION
        house.box.service.hub.publish("hello", {})
        for events in (known, here):
            while (await events.receive_json(timeout=WAIT_S))["type"] != "hello":
                pass


async def test_a_funasr_client_whose_network_is_taken_off_the_list_gets_its_finals_first(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start(funasr={"allow": ["127.0.0.0/8"]})
    async with http.ws_connect(url, headers=ELSEWHERE, protocols=["binary"]) as stream:
        await stream.send_json({"mode": "2pass", "wav_name": "a", "is_speaking": True})
        await stream.send_bytes(tone(7, 5).tobytes() + silence(1).tobytes())
        assert (await stream.receive_json(timeout=WAIT_S))["mode"] == "2pass-online"
        await house.reload(funasr={"allow": "off"})
        said = await stream.receive_json(timeout=WAIT_S)
        while said["mode"] != "2pass-offline":
            said = await stream.receive_json(timeout=WAIT_S)
        assert said["text"] == "77777"
        assert await close_code(stream) == WSCloseCode.POLICY_VIOLATION
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(url, headers=ELSEWHERE)


async def test_the_first_listener_with_tls_comes_by_reload_and_brings_its_certificate(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start()
    async with http.get(url + "sign-in/about") as answer:
        assert (await answer.json())["sha256"] is None
    port = free_port()
    listen: list[dict[str, Any]] = [{"port": 0}, {"port": port, "tls": True}]
    await house.reload(listen=listen)
    trust = ssl.create_default_context(cafile=str(house.state / "tls" / "cert.pem"))
    async with http.get(f"https://127.0.0.1:{port}/sign-in/about", ssl=trust) as answer:
        first = (await answer.json())["sha256"]
    assert first
    await house.reload()
    async with http.get(url + "sign-in/about") as answer:
        assert (await answer.json())["sha256"] is None


async def test_a_certificate_that_can_not_be_read_refuses_the_reload_with_nothing_changed(
    house: House, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    url = await house.start()
    (tmp_path / "c.pem").write_text("no certificate")
    bad = {"cert": tmp_path / "c.pem", "key": tmp_path / "c.pem"}
    listen = [{"port": 0}, {"port": free_port(), "tls": True}]
    with pytest.raises(ConfigError, match=r"tls\.cert"):
        await house.reload(listen=listen, tls=bad, auth=OPEN)
    assert await status(http, url) == 401
    async with http.get(url + "sign-in/about") as answer:
        assert (await answer.json())["sha256"] is None


async def test_a_taken_port_refuses_the_reload_with_the_rules_as_they_were(
    house: House, http: aiohttp.ClientSession
) -> None:
    url = await house.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = [{"port": 0}, {"port": taken.getsockname()[1]}]
        with pytest.raises(ConfigError, match="is taken"):
            await house.reload(listen=listen, auth=OPEN)
    assert await status(http, url) == 401
    assert await status(http, url, **bearer(TOKEN)) == 200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def close_code(link: aiohttp.ClientWebSocketResponse) -> int:
    """The code that a socket is closed with, whatever comes before."""
    while (message := await link.receive(timeout=WAIT_S)).type is not aiohttp.WSMsgType.CLOSE:
        assert not link.closed
    return int(message.data)
