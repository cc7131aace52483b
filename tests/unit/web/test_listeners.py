"""Listeners and certificates."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.config import Config
from agent.errors import ConfigError
from agent.web.listeners import open_listeners, openable
from agent.web.tls import Pair, device_certificate, make_authority, make_certificate


@pytest_asyncio.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    app = web.Application()

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.router.add_get("/", hello)
    made = web.AppRunner(app)
    await made.setup()
    yield made
    await made.cleanup()


def config(tmp_path: Path, *listeners: dict[str, object], **more: object) -> Config:
    return Config.model_validate({"listen": list(listeners), "state_dir": tmp_path, **more})


async def test_every_listener_serves_with_its_own_transport(
    runner: web.AppRunner, tmp_path: Path
) -> None:
    plain, tls = await open_listeners(
        runner, config(tmp_path, {"port": 0}, {"port": 0, "host": "localhost", "tls": True})
    )
    assert plain.startswith("http://127.0.0.1:")
    assert tls.startswith("https://localhost:")
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "cert.pem"))
    async with aiohttp.ClientSession() as http:
        assert await (await http.get(plain)).text() == "hello"
        assert await (await http.get(tls, ssl=trust)).text() == "hello"


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


async def test_a_taken_port_is_named_with_its_key(runner: web.AppRunner, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            await open_listeners(runner, config(tmp_path, {"port": 0}, {"port": port}))
    assert raised.value.problems[0].key == "listen.1.port"
    assert f"{port} is taken" in raised.value.problems[0].message


async def test_a_certificate_that_is_none_is_named(runner: web.AppRunner, tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    settings = {"cert": tmp_path / "c.pem", "key": tmp_path / "c.pem"}
    with pytest.raises(ConfigError, match=r"tls\.cert"):
        await open_listeners(runner, config(tmp_path, {"port": 0, "tls": True}, tls=settings))


async def test_a_key_with_a_password_is_named_and_nobody_is_asked(
    runner: web.AppRunner, tmp_path: Path
) -> None:
    made = make_authority("box")
    cert, plain = made.certificate, made.key
    locked = serialization.load_pem_private_key(plain, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "c.pem").write_bytes(cert)
    (tmp_path / "k.pem").write_bytes(locked)
    settings = {"cert": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    with pytest.raises(ConfigError, match="has a password"):
        await open_listeners(runner, config(tmp_path, {"port": 0, "tls": True}, tls=settings))


async def test_a_state_folder_that_can_not_be_written_is_named(
    runner: web.AppRunner, tmp_path: Path
) -> None:
    (tmp_path / "tls").write_text("a file where the folder belongs")
    with pytest.raises(ConfigError, match="state_dir"):
        await open_listeners(runner, config(tmp_path, {"port": 0, "tls": True}))


async def test_a_host_that_does_not_resolve_is_named(runner: web.AppRunner, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        await open_listeners(runner, config(tmp_path, {"host": "box.invalid", "port": 0}))
    assert raised.value.problems[0].key == "listen.0.host"


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


async def test_a_socket_that_was_handed_over_serves_its_listener(
    runner: web.AppRunner, tmp_path: Path
) -> None:
    handed = socket.create_server(("127.0.0.1", 0))
    port = handed.getsockname()[1]
    # Opened a second time the address would be refused as taken.
    addresses = await open_listeners(runner, config(tmp_path, {"port": port}), [handed])
    assert addresses == [f"http://127.0.0.1:{port}/"]
    async with aiohttp.ClientSession() as http, http.get(addresses[0]) as answer:
        assert await answer.text() == "hello"
