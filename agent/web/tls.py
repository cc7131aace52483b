"""The box's own authority and the certificate that it gives the box, kept in the state folder.

A client that trusts the authority once goes on trusting the box when its address changes or the
certificate is renewed. The authority can vouch for the box's own names only.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
"""Fixed, so that a box whose clock is wrong at its first start still makes a valid one."""
AUTHORITY_DAYS = 9130
VALID_DAYS = 800
"""Apple's systems take no more than 825."""
RENEW_DAYS = 60
"""A certificate that ends sooner is replaced."""
PRIVATE_NAMES = ("local", "localhost", "lan", "internal", "home.arpa")
"""Domains that no public site has; the authority may vouch for names in them."""
_SECRET = 0o600


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


def device_certificate(
    folder: Path,
    host: str | None = None,
    addresses: list[str] | None = None,
    now: datetime.datetime | None = None,
) -> tuple[Path, Path]:
    """Files of this box's certificate (followed by its authority's) and key.

    Made on the first call, and again when they are damaged, don't belong together, end soon, or
    lack a name or an address. None: as the system says. Raises OSError.
    """
    host = socket.gethostname() if host is None else host
    addresses = local_addresses() if addresses is None else addresses
    now = now or datetime.datetime.now(datetime.timezone.utc)
    cert, key = folder / "cert.pem", folder / "key.pem"
    authority = _kept(folder / "ca.pem", folder / "ca.key")
    if authority is None or not _may_vouch(authority, host, now):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = make_authority(host)
        _write(folder / "ca.key", authority.key)
        _write(folder / "ca.pem", authority.certificate)
    pair = _kept(cert, key)
    if pair is None or not _serves(pair, authority, host, addresses, now):
        chain, key_data = make_certificate(host, addresses, authority, now)
        _write(key, key_data)
        _write(cert, chain)
    return cert, key


def make_authority(host: str) -> Pair:
    """A self-signed authority for the names of a box, and for nothing else with a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    title = f"funasr-agent on {host.split('.')[0]}"[:55] + f" ({secrets.token_hex(3)})"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    permitted = [x509.DNSName(n) for n in dict.fromkeys([*_names(host), *PRIVATE_NAMES])]
    builder = (
        _builder(name, name, key, NOT_BEFORE, AUTHORITY_DAYS, issuer=key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def make_certificate(
    host: str,
    addresses: list[str],
    authority: Pair | None = None,
    now: datetime.datetime = NOT_BEFORE,
) -> tuple[bytes, bytes]:
    """A certificate for `host`, its .local name, localhost and `addresses`, followed by that of
    its authority (None: a new one), and its key; PEM."""
    authority = authority or make_authority(host)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _names(host)[0][:64])])
    start = max(NOT_BEFORE, now - datetime.timedelta(days=1))
    alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in _names(host)]
    alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
    builder = (
        _builder(subject, issuer.subject, key, start, VALID_DAYS, issuer=issuer_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    made = _pair(builder.sign(issuer_key, hashes.SHA256()), key)
    return made.certificate + authority.certificate, made.key


def local_addresses() -> list[str]:
    """Addresses of this box's interfaces, loopback among them; IPv6's that change or need a zone
    are left out."""
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            address = ipaddress.ip_address(entry.address.split("%")[0])
            if address.version == 4 or not address.is_link_local:
                found.append(str(address))
    return sorted(set(found))


def _names(host: str) -> list[str]:
    short = host.split(".")[0]
    names = dict.fromkeys([host, f"{short}.local", "localhost"])
    return [name for name in names if name and name.isascii() and not name.startswith(".")]


def _builder(
    subject: x509.Name,
    by: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime,
    days: int,
    *,
    issuer: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private)


def _kept(cert: Path, key: Path) -> Pair | None:
    """The pair in two files; None when it is missing, damaged or no pair."""
    if not (cert.is_file() and key.is_file()):
        return None
    pair = Pair(cert.read_bytes(), key.read_bytes())
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        private = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        return None
    return pair if certificate.public_key() == private.public_key() else None


def _may_vouch(authority: Pair, host: str, now: datetime.datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    domains = [str(n.value) for n in found.permitted_subtrees or () if isinstance(n, x509.DNSName)]
    return now + datetime.timedelta(days=VALID_DAYS) < certificate.not_valid_after_utc and all(
        any(name == domain or name.endswith(f".{domain}") for domain in domains)
        for name in _names(host)
    )


def _serves(
    pair: Pair, authority: Pair, host: str, addresses: list[str], now: datetime.datetime
) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    if not pair.certificate.endswith(authority.certificate):
        return False
    covered = {*names.get_values_for_type(x509.DNSName)}
    covered |= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    left = certificate.not_valid_after_utc - now
    return (
        certificate.not_valid_before_utc <= max(now, NOT_BEFORE)
        and left > datetime.timedelta(days=RENEW_DAYS)
        and covered >= {*_names(host), *addresses}
    )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by the owner only."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _SECRET)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
