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

from agent.config import Config, Tls
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


@dataclass(frozen=True)
class Certificate:
    """One that was read and can be used."""

    tls: Tls
    """The keys that name it."""
    context: ssl.SSLContext
    trust: Trust
    stamp: object


class CertificateKeeper:
    """Loads the certificate of the configuration, or the box's own, and keeps it fresh."""

    def __init__(self, config: Config, own: Callable[[Path], Files] = device_certificate) -> None:
        """`own` makes or renews the box's own files in a folder."""
        self._first = config.tls
        self._folder = config.state_dir / "tls"
        self._own = own
        self._current: Certificate | None = None
        self._told = ""
        self.context = _context()
        """For the listeners: hands every handshake the certificate in force."""
        self.context.sni_callback = self._choose  # asked for clients that name no host too

    @property
    def trust(self) -> Trust | None:
        """Of the certificate in force; None where no listener has TLS."""
        return self._current.trust if self._current is not None else None

    def load(self) -> None:
        """The first time. Blocks. Raises ConfigError naming the key that mends it."""
        self.take(self.read(self._first))

    def read(self, tls: Tls) -> Certificate:
        """The certificate that these keys name; nothing changes for those who connect. Blocks.
        Raises ConfigError."""
        cert, key = self._files(tls)
        stamp = _stamp(cert, key)
        try:
            context = _context(cert, key)
            if self._current is None:
                # The outer context has one too: OpenSSL wants it before it asks the callback.
                self.context.load_cert_chain(cert, key, password=_no_password)
            return Certificate(tls, context, self._read_trust(tls, cert), stamp)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError([_problem(cert, key, error)]) from None

    def take(self, certificate: Certificate | None) -> None:
        """From now on it is in force; None: no listener has TLS any more."""
        before, self._current, self._told = self._current, certificate, ""
        if before is not None and certificate is not None and before.trust != certificate.trust:
            _log.info("another certificate is in force: SHA-256 %s", certificate.trust.sha256)

    def refresh(self) -> bool:
        """Look whether the box's certificate must be renewed or files have changed; True when
        another one is in force. Blocks. What can't be used is logged and the old one stays."""
        current = self._current
        if current is None:
            return False
        try:
            if _stamp(*self._files(current.tls)) == current.stamp:
                return False
            fresh = self.read(current.tls)
        except ConfigError as error:
            self._tell(error.message)
            return False
        if self._current is not current:  # a reload came between
            return False
        self.take(fresh)
        return True

    async def watch(self, every_s: float) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.refresh)

    def _choose(
        self, link: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        if self._current is not None:
            link.context = self._current.context

    def _files(self, tls: Tls) -> Files:
        if tls.cert is not None and tls.key is not None:
            return tls.cert, tls.key
        try:
            return self._own(self._folder)
        except OSError as error:
            reason = f"no certificate can be kept in {self._folder}: {error.strerror or error}"
            raise ConfigError([ConfigProblem("state_dir", reason)]) from None

    def _read_trust(self, tls: Tls, cert: Path) -> Trust:
        leaf = _fingerprint(cert.read_text(encoding="ascii", errors="replace"))
        if tls.cert is not None:
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
