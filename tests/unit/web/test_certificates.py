"""Certificates that change while the listeners serve."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from agent.config import Config
from agent.errors import ConfigError
from agent.web.certificates import CertificateKeeper
from agent.web.tls import (
    RENEW_DAYS,
    VALID_DAYS,
    device_certificate,
    make_authority,
    make_certificate,
)

NOW = datetime.datetime(2026, 11, 25, tzinfo=datetime.timezone.utc)
LATER = datetime.timedelta


def names(cert: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(cert.read_bytes())
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = extension.get_values_for_type(x509.IPAddress)
    return {*extension.get_values_for_type(x509.DNSName), *map(str, addresses)}


def test_a_new_address_or_a_near_end_renews_it_and_the_authority_stays(tmp_path: Path) -> None:
    cert, key = device_certificate(tmp_path, "box", ["10.0.0.5"], NOW)
    first, authority = cert.read_bytes(), (tmp_path / "ca.pem").read_bytes()
    assert names(cert) == {"box", "box.local", "localhost", "10.0.0.5"}
    device_certificate(tmp_path, "box", [], NOW + LATER(days=1))
    assert cert.read_bytes() == first
    device_certificate(tmp_path, "box", ["10.0.0.9"], NOW)
    assert "10.0.0.9" in names(cert)
    second = cert.read_bytes()
    device_certificate(tmp_path, "box", [], NOW + LATER(days=VALID_DAYS - RENEW_DAYS - 2))
    assert cert.read_bytes() == second
    device_certificate(tmp_path, "box", [], NOW + LATER(days=VALID_DAYS - RENEW_DAYS))
    assert cert.read_bytes() not in (first, second)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)


def test_a_renamed_box_has_a_certificate_for_its_new_name(tmp_path: Path) -> None:
    cert, _ = device_certificate(tmp_path, "box", [], NOW)
    device_certificate(tmp_path, "kitchen", [], NOW)
    assert {"kitchen", "kitchen.local"} <= names(cert)


def test_a_wrong_clock_at_the_first_start_spoils_nothing(tmp_path: Path) -> None:
    for wrong in (datetime.datetime(1970, 1, 2, tzinfo=datetime.timezone.utc), NOW.replace(2040)):
        folder = tmp_path / str(wrong.year)
        cert, _ = device_certificate(folder, "box", [], wrong)
        made = cert.read_bytes()
        device_certificate(folder, "box", [], wrong)
        assert cert.read_bytes() == made
        device_certificate(folder, "box", [], NOW)
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        assert found.not_valid_before_utc <= NOW < found.not_valid_after_utc
        lasts = found.not_valid_after_utc - found.not_valid_before_utc
        assert lasts <= LATER(days=825)  # Apple's systems take no more


def test_the_authority_can_not_vouch_for_a_public_site(tmp_path: Path) -> None:
    device_certificate(tmp_path, "box", ["127.0.0.1"], NOW)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert limits.value.permitted_subtrees is not None
    domains = {str(name.value) for name in limits.value.permitted_subtrees}
    assert domains == {"box", "box.local", "localhost", "local", "lan", "internal", "home.arpa"}


class Server:
    """A TLS listener with a keeper's context."""

    def __init__(self, keeper: CertificateKeeper) -> None:
        self._keeper = keeper

    async def __aenter__(self) -> Server:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        self._server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=self._keeper.context)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def shows(self, name: str | None) -> bytes:
        """The certificate that a client gets, DER; `name`: the host that it names."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        link = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=trust, server_hostname=name or ""
        )
        found: bytes = link[1].get_extra_info("ssl_object").getpeercert(binary_form=True)
        link[1].close()
        return found


def der(cert: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(first(cert.read_text()))


def first(pem: str) -> str:
    end = "-----END CERTIFICATE-----\n"
    return pem.partition(end)[0] + end


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    addresses = ["127.0.0.1"]
    keeper = CertificateKeeper(
        Config.model_validate({"state_dir": tmp_path}),
        lambda folder: device_certificate(folder, "box", addresses, NOW),
    )
    keeper.load()
    cert = tmp_path / "tls" / "cert.pem"
    async with Server(keeper) as server:
        before = der(cert)
        assert await server.shows("box.local") == before
        assert await server.shows(None) == before
        assert not keeper.refresh()
        addresses.append("10.0.0.7")
        assert keeper.refresh()
        assert der(cert) != before
        assert await server.shows("box.local") == der(cert)
        assert await server.shows(None) == der(cert)
    assert keeper.trust is not None
    assert keeper.trust.authority == (tmp_path / "tls" / "ca.pem").read_bytes()


def rsa_pair(folder: Path) -> None:
    """A pair of another kind of key, self-signed."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + LATER(days=90))
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "k.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
    (folder / "c.pem").write_bytes(made.public_bytes(pem))


async def test_an_owner_s_new_files_are_taken_and_broken_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    data = make_certificate("box", [])
    cert.write_bytes(data[0])
    key.write_bytes(data[1])
    tls = {"cert": cert, "key": key}
    keeper = CertificateKeeper(Config.model_validate({"state_dir": tmp_path, "tls": tls}))
    keeper.load()
    assert keeper.trust is not None
    assert keeper.trust.authority is None
    async with Server(keeper) as server:
        before = await server.shows("box")
        cert.write_text("half a certificate")
        assert not keeper.refresh()
        assert not keeper.refresh()
        assert caplog.text.count("the certificate in force stays") == 1
        assert await server.shows("box") == before
        cert.unlink()
        assert not keeper.refresh()
        rsa_pair(tmp_path)
        assert keeper.refresh()
        assert await server.shows("box") == der(cert) != before
        assert await server.shows(None) == der(cert)


async def test_a_state_folder_that_goes_away_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = CertificateKeeper(Config.model_validate({"state_dir": tmp_path / "state"}))
    keeper.load()
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "state").write_text("no folder")
    assert not keeper.refresh()
    assert "no certificate can be kept" in caplog.text


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    tls = {"cert": tmp_path / "c.pem", "key": tmp_path / "c.pem"}
    with pytest.raises(ConfigError, match=r"tls\.cert"):
        CertificateKeeper(Config.model_validate({"state_dir": tmp_path, "tls": tls})).load()


def test_a_key_with_a_password_is_named_and_nobody_is_asked(tmp_path: Path) -> None:
    made = make_authority("box")
    locked = serialization.load_pem_private_key(made.key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "c.pem").write_bytes(made.certificate)
    (tmp_path / "k.pem").write_bytes(locked)
    tls = {"cert": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    with pytest.raises(ConfigError, match="has a password"):
        CertificateKeeper(Config.model_validate({"state_dir": tmp_path, "tls": tls})).load()


def test_a_state_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file where the folder belongs")
    with pytest.raises(ConfigError, match="state_dir"):
        CertificateKeeper(Config.model_validate({"state_dir": tmp_path})).load()
