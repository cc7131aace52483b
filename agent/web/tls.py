"""The box's own certificate, made once and kept in the state folder."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
"""Fixed, so that a box whose clock is wrong at its first start still makes a valid one."""
VALID_DAYS = 3650
_SECRET = 0o600


def device_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of this box (PEM); made on the first call, and again when they are
    damaged, don't belong together or have expired. Raises OSError."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not _usable(cert, key):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        cert_data, key_data = make_certificate(socket.gethostname(), local_addresses())
        _write(key, key_data)
        _write(cert, cert_data)
    return cert, key


def make_certificate(host: str, addresses: list[str]) -> tuple[bytes, bytes]:
    """A self-signed certificate for `host`, `host`.local, localhost and `addresses`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    short = host.split(".")[0]
    names = dict.fromkeys([host, f"{short}.local", "localhost"])
    alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in names if n.isascii() and n]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_BEFORE + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def local_addresses() -> list[str]:
    """Addresses of this box's interfaces, loopback among them."""
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                found.append(entry.address.split("%")[0])
    return sorted(set(found))


def _usable(cert: Path, key: Path) -> bool:
    if not (cert.is_file() and key.is_file()):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError):
        return False
    ends = certificate.not_valid_after_utc
    now = datetime.datetime.now(datetime.timezone.utc)
    return certificate.public_key() == private.public_key() and now < ends


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by the owner only."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _SECRET)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
