"""The TLS of another box: its certificate, seen with nothing taken on trust."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import ssl

from agent.doctor.certificate import SOON_DAYS, matches, names_of
from agent.doctor.report import Check, failure, gathered, warning

NAME = "certificate"


def trusting() -> ssl.SSLContext:
    """Speaks with any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def check_tls(
    host: str, address: str, port: int, limit_s: float, now: float
) -> tuple[Check, bool]:
    """One line, and whether the other side speaks TLS at all.

    `address` is where `host` was found; `now` is in UNIX seconds.
    """
    advice = "is this an https port? try http:// in --url"
    try:
        der = await asyncio.wait_for(_certificate(host, address, port, trusting()), limit_s)
    except asyncio.TimeoutError:
        return failure(NAME, f"no TLS handshake within {limit_s:g} s", advice), False
    except (OSError, EOFError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        seen = f"the TLS handshake fails: {reason or type(error).__name__}"
        return failure(NAME, seen, advice), False
    return await _judged(der, host, address, port, limit_s, now), True


async def _judged(
    der: bytes, host: str, address: str, port: int, limit_s: float, now: float
) -> Check:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        return failure(NAME, f"can't be read: {error}", "give the box a new certificate")
    names = names_of(certificate)
    ends = certificate.not_valid_after_utc
    seen = [f"for {', '.join(names[:8]) or 'no name'}", f"valid to {ends.date()}"]
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    problems = []
    if moment >= ends:
        problems.append(failure(NAME, "it has expired", "renew it, or restart the agent there"))
    elif moment < certificate.not_valid_before_utc:
        seen.append(f"valid from {certificate.not_valid_before_utc.date()}")
        advice = f"set the clocks: this machine's says {moment.date()}"
        problems.append(failure(NAME, "it is not valid yet", advice))
    elif (ends - moment).days < SOON_DAYS:
        problems.append(warning(NAME, f"it expires in {(ends - moment).days} days", "renew it"))
    if not problems:
        distrust = await _distrust(host, address, port, limit_s)
        if distrust:
            seen.append(f"SHA-256 {_fingerprint(der)}")
            advice = "compare the SHA-256 with the box's own, then trust it in the client"
            problems.append(warning(NAME, f"no authority that is known here: {distrust}", advice))
    if not any(_covers(host, name) for name in names):
        advice = "use one of its names in --url, or get a certificate for this one"
        problems.append(warning(NAME, f"not for {host}", advice))
    return gathered(NAME, seen, problems)


async def _certificate(host: str, address: str, port: int, context: ssl.SSLContext) -> bytes:
    """The certificate in DER. Raises OSError, of which ssl's errors are a kind."""
    _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    try:
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return found.getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()


async def _distrust(host: str, address: str, port: int, limit_s: float) -> str:
    """Why this machine does not trust the certificate; empty when it does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        await asyncio.wait_for(_certificate(host, address, port, context), limit_s)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, EOFError, asyncio.TimeoutError) as error:
        return f"a second handshake fails: {error or type(error).__name__}"
    return ""


def _covers(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        return matches(host, name)


def _fingerprint(der: bytes) -> str:
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[i : i + 2] for i in range(0, len(text), 2))
