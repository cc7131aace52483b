"""The certificate of the listeners with TLS."""

from __future__ import annotations

import datetime
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config
from agent.doctor.box import Box
from agent.doctor.report import Check, failure, gathered, ok, warning

if TYPE_CHECKING:
    from cryptography import x509

NAME = "certificate"
SOON_DAYS = 30
_REMAKE = "start the agent, it makes a new one; a running one does so within a minute"


def check_certificate(config: Config, box: Box, host: str | None = None) -> list[Check]:
    """One line. `host` is the name of this box; None: as the system says."""
    if not any(listener.tls for listener in config.listen):
        return [ok(NAME, "not needed: no listener has tls: true")]
    cert, key = config.tls.cert, config.tls.key
    own = cert is None or key is None
    if cert is None or key is None:
        folder = config.state_dir / "tls"
        cert, key = folder / "cert.pem", folder / "key.pem"
        if not os.path.lexists(cert) and not os.path.lexists(key):
            return [ok(NAME, f"none yet: one is made in {folder} at the first start")]
    return [_pair(cert, key, box, host or socket.gethostname(), own=own)]


def _pair(cert: Path, key: Path, box: Box, host: str, *, own: bool) -> Check:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    replace = _REMAKE if own else "put a PEM certificate and its key without a password there"
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        reason = f"{error.filename or cert}: {(error.strerror or str(error)).lower()}"
        advice = (
            _REMAKE if own else "correct tls.cert and tls.key, or let the agent's user read them"
        )
        return failure(NAME, reason, advice)
    except TypeError:
        return failure(NAME, f"{key}: the key has a password", replace)
    except ValueError as error:
        return _bad(f"{cert} and {key} are not a certificate and key in PEM: {error}", replace, own)
    if certificate.public_key() != private.public_key():
        return _bad(f"{key} is not the key of {cert}", replace, own)
    now = datetime.datetime.fromtimestamp(box.now(), datetime.timezone.utc)
    problems = [*_dates(certificate, now, own=own), *_names(certificate, host, own=own)]
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        problems.append(warning(NAME, f"others may read {key}", f"chmod 600 {key}"))
    ends = certificate.not_valid_after_utc.date()
    kind = "made by the agent" if own else "configured"
    names = ", ".join(names_of(certificate)) or "no name"
    seen = [f"{kind}, for {names}", f"valid to {ends}", f"SHA-256 {fingerprint(certificate)}"]
    return gathered(NAME, seen, problems)


def _bad(seen: str, advice: str, own: bool) -> Check:
    """A damaged certificate of the agent's own is replaced by itself, any other stops it."""
    return warning(NAME, seen, advice) if own else failure(NAME, seen, advice)


def _dates(certificate: x509.Certificate, now: datetime.datetime, *, own: bool) -> list[Check]:
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    renew = _REMAKE if own else "renew it"
    if now >= ends:
        return [failure(NAME, f"expired {(now - ends).days} days ago", renew)]
    if now < starts:
        advice = "set the clock: date --set, or time from the network"
        return [
            failure(NAME, f"not valid before {starts.date()}, the clock says {now.date()}", advice)
        ]
    if (ends - now).days < SOON_DAYS:
        return [warning(NAME, f"expires in {(ends - now).days} days", renew)]
    return []


def _names(certificate: x509.Certificate, host: str, *, own: bool) -> list[Check]:
    wanted = (host, f"{host.split('.')[0]}.local")
    if any(matches(name, pattern) for name in wanted for pattern in names_of(certificate)):
        return []
    advice = "name the box so, or get a certificate for its name"
    if own:
        advice = f"the box was renamed since it was made: {_REMAKE}"
    return [warning(NAME, f"not for {' or '.join(dict.fromkeys(wanted))}", advice)]


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in pairs, as browsers and the box's trust page show it."""
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def names_of(certificate: x509.Certificate) -> list[str]:
    """Names and addresses that a certificate is for."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    names = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return [*names, *map(str, addresses)]


def matches(name: str, pattern: str) -> bool:
    """Whether a certificate's name covers `name`; a star stands for one whole first label."""
    name, pattern = name.lower().rstrip("."), pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern
