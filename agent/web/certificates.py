"""The certificate in force on the TLS listeners; it changes without a restart."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.errors import ConfigError, ConfigProblem
from agent.web.tls import device_certificate

_log = logging.getLogger(__name__)

Files = tuple[Path, Path]
"""Certificate and key."""


@dataclass(frozen=True)
class Trust:
    """What a client needs in order to trust the box."""

    sha256: str
    """Fingerprint of the certificate in force, as browsers show it."""
    authority: bytes | None
    """The box's own authority, PEM; None: the owner's certificate is in force."""
    authority_sha256: str = ""


class CertificateKeeper:
    """Loads the certificate of the configuration, or the box's own, and keeps it fresh."""

    def __init__(self, config: Config, own: Callable[[Path], Files] = device_certificate) -> None:
        """`own` makes or renews the box's own files in a folder."""
        self._configured = config.tls.cert, config.tls.key
        self._folder = config.state_dir / "tls"
        self._own = own
        self._stamp: object = None
        self._current: ssl.SSLContext
        self._trust: Trust
        self._told = ""
        self.context = _context()
        """For the listeners: hands every handshake the certificate in force."""
        self.context.sni_callback = self._choose  # asked for clients that name no host too

    @property
    def trust(self) -> Trust:
        """Of the certificate in force."""
        return self._trust

    def load(self) -> None:
        """The first time. Blocks. Raises ConfigError naming the key that mends it."""
        cert, key = self._files()
        stamp = _stamp(cert, key)
        try:
            # The first context has it too: OpenSSL wants one before it asks the callback.
            self._current = _context(cert, key)
            self.context.load_cert_chain(cert, key, password=_no_password)
            self._trust = self._read_trust(cert)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError([_problem(cert, key, error)]) from None
        self._stamp = stamp

    def refresh(self) -> bool:
        """Look whether the box's certificate must be renewed or files have changed; True when
        another one is in force. Blocks. What can't be used is logged and the old one stays."""
        try:
            cert, key = self._files()
            stamp = _stamp(cert, key)
            if stamp == self._stamp:
                return False
            current, trust = _context(cert, key), self._read_trust(cert)
        except ConfigError as error:
            self._tell(error.message)
            return False
        except (OSError, ssl.SSLError, ValueError) as error:
            self._tell(str(_problem(cert, key, error)))
            return False
        self._current, self._trust, self._stamp, self._told = current, trust, stamp, ""
        _log.info("another certificate is in force: SHA-256 %s", trust.sha256)
        return True

    async def watch(self, every_s: float) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.refresh)

    def _choose(
        self, link: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        link.context = self._current

    def _files(self) -> Files:
        cert, key = self._configured
        if cert is not None and key is not None:
            return cert, key
        try:
            return self._own(self._folder)
        except OSError as error:
            reason = f"no certificate can be kept in {self._folder}: {error.strerror or error}"
            raise ConfigError([ConfigProblem("state_dir", reason)]) from None

    def _read_trust(self, cert: Path) -> Trust:
        leaf = _fingerprint(cert.read_text(encoding="ascii", errors="replace"))
        if self._configured[0] is not None:
            return Trust(leaf, None)
        pem = (self._folder / "ca.pem").read_bytes()
        return Trust(leaf, pem, _fingerprint(pem.decode("ascii", "replace")))

    def _tell(self, problem: str) -> None:
        """Once for each problem, not at every look."""
        if problem != self._told:
            self._told = problem
            _log.error("the certificate in force stays: %s", problem)


def _context(cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(cert, key, password=_no_password)
    return context


def _no_password() -> str:
    """Without it OpenSSL would ask at the terminal and the daemon would hang."""
    raise ValueError("the key has a password; store it without one")


def _problem(cert: Path, key: Path, error: Exception) -> ConfigProblem:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return ConfigProblem("tls.cert", f"{cert} and {key} can't be used: {reason}")


def _stamp(*paths: Path) -> object:
    """Changes when a file does, also behind a link; raises nothing for one that is gone."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            seen = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return found


def _fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate, in pairs as browsers show it. Raises ValueError."""
    end = "-----END CERTIFICATE-----"
    head = pem[pem.find("-----BEGIN CERTIFICATE-----") :].partition(end)[0]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(head + end)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
