"""Listeners and certificates."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509

from agent.config import Config
from agent.errors import ConfigError
from agent.web.certificates import CertificateKeeper
from agent.web.listeners import LISTENERS, Listeners, openable, turn_away
from agent.web.tls import Pair, device_certificate, make_authority, make_certificate

WAIT_S = 10.0


class Served:
    """Listeners of an application that says hello and echoes over its WebSocket."""

    def __init__(self, folder: Path, handed: Sequence[socket.socket] = ()) -> None:
        app = web.Application(middlewares=[turn_away])

        async def hello(request: web.Request) -> web.Response:
            return web.Response(text="hello")

        async def echo(request: web.Request) -> web.WebSocketResponse:
            link = web.WebSocketResponse()
            await link.prepare(request)
            async for message in link:
                await link.send_str(message.data)
            return link

        app.router.add_get("/", hello)
        app.router.add_get("/echo", echo)
        self.runner = web.AppRunner(app)
        self.certificates = CertificateKeeper(Config.model_validate({"state_dir": folder}))
        self.listeners = Listeners(self.runner, self.certificates.context, handed)
        app[LISTENERS] = self.listeners

    async def start(self) -> None:
        await self.runner.setup()

    async def use(self, *listeners: dict[str, object]) -> list[str]:
        """Serve these from now on; their addresses."""
        config = Config.model_validate({"listen": list(listeners)})
        (await self.listeners.prepare(config.listen)).commit()
        return self.listeners.addresses

    async def stop(self) -> None:
        self.listeners.close()
        await self.runner.cleanup()


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.start()
    yield made
    await made.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def patient_client() -> aiohttp.ClientSession:
    """One that keeps its connections, however busy the machine is."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=600))


async def greeting(http: aiohttp.ClientSession, url: str, **how: Any) -> str:
    async with http.get(url, **how) as answer:
        return await answer.text()


async def test_every_listener_serves_with_its_own_transport(served: Served, tmp_path: Path) -> None:
    served.certificates.load()
    plain, tls = await served.use({"port": 0}, {"port": 0, "host": "localhost", "tls": True})
    assert plain.startswith("http://127.0.0.1:")
    assert tls.startswith("https://localhost:")
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "cert.pem"))
    async with aiohttp.ClientSession() as http:
        assert await greeting(http, plain) == "hello"
        assert await greeting(http, tls, ssl=trust) == "hello"


@pytest.mark.parametrize(
    ("bound", "shown"),
    [
        ("http://0.0.0.0:8080/", "http://127.0.0.1:8080/"),
        ("https://[::]:443/", "https://[::1]:443/"),
        ("http://192.168.0.7:8080/", "http://192.168.0.7:8080/"),
        ("http://10.0.0.0:80/", "http://10.0.0.0:80/"),
    ],
)
def test_the_address_that_is_printed_can_be_opened(bound: str, shown: str) -> None:
    assert openable(bound) == shown


async def test_a_taken_port_is_named_with_its_key(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            await served.use({"port": 0}, {"port": port})
    assert raised.value.problems[0].key == "listen.1.port"
    assert f"{port} is taken" in raised.value.problems[0].message


async def test_a_host_that_does_not_resolve_is_named(served: Served) -> None:
    with pytest.raises(ConfigError) as raised:
        await served.use({"host": "box.invalid", "port": 0})
    assert raised.value.problems[0].key == "listen.0.host"


async def test_a_change_opens_closes_and_leaves_alone_what_stays(served: Served) -> None:
    stays, goes = await served.use({"port": 0}, {"port": free_port()})
    async with (
        patient_client() as http,
        http.ws_connect(stays + "echo") as of_that_which_stays,
        http.ws_connect(goes + "echo") as of_that_which_goes,
    ):
        assert await greeting(http, goes) == "hello"
        same, new = await served.use({"port": 0}, {"port": free_port()})
        assert same == stays
        assert await greeting(http, new) == "hello"
        for link in (of_that_which_stays, of_that_which_goes):
            await link.send_str("still here")
            assert await link.receive_str(timeout=WAIT_S) == "still here"
        # The connection of the request above is still open; nothing is asked for over it.
        async with http.get(goes) as answer:
            assert answer.status == 421
        with pytest.raises(aiohttp.ClientConnectorError):
            await greeting(http, goes)


async def test_a_change_that_fails_leaves_everything_as_it_was(served: Served) -> None:
    before = await served.use({"port": free_port()}, {"port": 0})
    port = int(before[0].rstrip("/").rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # The first one is in the way of the new one on every address, which is opened; the
        # second new one can't be.
        wanted = ({"host": "0.0.0.0", "port": port}, {"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match="is taken"):
            await served.use(*wanted)
    assert served.listeners.addresses == before
    async with aiohttp.ClientSession() as http:
        assert [await greeting(http, address) for address in before] == ["hello", "hello"]
        async with http.ws_connect(before[0] + "echo") as link:
            await link.send_str("once more")
            assert await link.receive_str(timeout=WAIT_S) == "once more"


async def test_a_listener_is_widened_to_the_network_on_the_same_port(served: Served) -> None:
    port = free_port()
    (narrow,) = await served.use({"port": port})
    async with aiohttp.ClientSession() as http, http.ws_connect(narrow + "echo") as link:
        (wide,) = await served.use({"host": "0.0.0.0", "port": port})
        assert wide == f"http://0.0.0.0:{port}/"
        assert await greeting(http, f"http://127.0.0.1:{port}/") == "hello"
        await link.send_str("still here")
        assert await link.receive_str(timeout=WAIT_S) == "still here"
        (again,) = await served.use({"port": port})
        assert again == narrow
        assert await greeting(http, narrow) == "hello"


async def test_a_listener_turns_to_tls_on_the_same_port(served: Served, tmp_path: Path) -> None:
    port = free_port()
    await served.use({"port": port})
    async with patient_client() as http:
        assert await greeting(http, f"http://127.0.0.1:{port}/") == "hello"
        served.certificates.load()
        (tls,) = await served.use({"port": port, "tls": True})
        trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "cert.pem"))
        assert await greeting(http, tls, ssl=trust) == "hello"
        async with http.get(f"http://127.0.0.1:{port}/") as answer:  # over the old connection
            assert answer.status == 421


async def test_nobody_is_served_at_a_new_listener_before_the_change_is_taken(
    served: Served,
) -> None:
    await served.use({"port": 0})
    new = {"port": free_port()}
    change = await served.listeners.prepare(
        Config.model_validate({"listen": [{"port": 0}, new]}).listen
    )
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{new['port']}/") as answer:
            assert answer.status == 421
        change.commit()
        assert await greeting(http, f"http://127.0.0.1:{new['port']}/") == "hello"


@pytest.mark.parametrize("damaged", ["cert.pem", "key.pem", "ca.pem", "ca.key"])
@pytest.mark.parametrize("content", [b"", b"no pem", make_authority("other")])
def test_a_damaged_pair_is_made_again(tmp_path: Path, damaged: str, content: bytes | Pair) -> None:
    device_certificate(tmp_path / "tls")
    if isinstance(content, Pair):
        content = content.key if "key" in damaged else content.certificate
    (tmp_path / "tls" / damaged).write_bytes(content)
    cert, key = device_certificate(tmp_path / "tls")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)


def test_the_certificate_is_kept_and_its_key_is_secret(tmp_path: Path) -> None:
    cert, key = device_certificate(tmp_path / "tls")
    first = cert.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert device_certificate(tmp_path / "tls")[0].read_bytes() == first


def test_the_certificate_names_the_box_in_every_way() -> None:
    data, _ = make_certificate("box.example", ["127.0.0.1", "192.0.2.7", "::1"])
    certificate = x509.load_pem_x509_certificate(data)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["box.example", "box.local", "localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "192.0.2.7",
        "::1",
    ]


async def test_a_socket_that_was_handed_over_serves_its_listener_whenever_it_is_wanted(
    tmp_path: Path,
) -> None:
    handed = socket.create_server(("127.0.0.1", 0))
    port = handed.getsockname()[1]
    served = Served(tmp_path, [handed])
    await served.start()
    # Opened a second time the address would be refused as taken.
    addresses = await served.use({"port": port})
    assert addresses == [f"http://127.0.0.1:{port}/"]
    async with aiohttp.ClientSession() as http:
        assert await greeting(http, addresses[0]) == "hello"
    await served.use({"port": 0})
    await served.use({"port": port})
    async with aiohttp.ClientSession() as http:
        assert await greeting(http, addresses[0]) == "hello"
    await served.stop()
    handed.close()
