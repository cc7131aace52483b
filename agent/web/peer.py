"""Who is at the other end of a request, and what the request asks for."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from aiohttp import web

from agent.networks import Address, parse_address

HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)(:\d+)?")
"""A Host header: a name or an address, and perhaps a port."""
_FORWARDED = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via")


@dataclass(frozen=True)
class Peer:
    """The two ends of a connection."""

    address: Address | None
    """None on the unix socket."""
    local: Address | None
    """The box's own address that was reached."""
    tls: bool = False
    unix: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether both ends are this machine."""
        return all(end is not None and end.is_loopback for end in (self.address, self.local))


def peer_of(request: web.Request) -> Peer:
    """The ends of a request's connection; nobody when it has gone already."""
    transport = request.transport
    if transport is None:
        return Peer(None, None)
    link = transport.get_extra_info("socket")
    if link is not None and link.family == socket.AF_UNIX:
        return Peer(None, None, unix=True)
    return Peer(
        _address(transport.get_extra_info("peername")),
        _address(transport.get_extra_info("sockname")),
        tls=transport.get_extra_info("ssl_object") is not None,
    )


def is_upgrade(request: web.Request) -> bool:
    """Whether a WebSocket is asked for."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def is_visit(request: web.Request) -> bool:
    """Whether a person's browser asks for a page."""
    wants_page = "text/html" in request.headers.get("Accept", "")
    return request.method in ("GET", "HEAD") and wants_page and not is_upgrade(request)


def is_direct(request: web.Request) -> bool:
    """Whether no proxy stands between: what it hands on is not from this machine."""
    return not any(name in request.headers for name in _FORWARDED)


def is_own_host(request: web.Request) -> bool:
    """Whether the request is for this box by a name of its own or by address. Else a foreign page
    may have had its name resolve to this machine."""
    header = request.headers.get("Host")
    if header is None:
        return True
    found = HOST.fullmatch(header)
    host = found[1].strip("[]").lower() if found else ""
    if parse_address(host) is not None or host == "localhost" or host.endswith(".localhost"):
        return True
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return host in (name, short, f"{short}.local")


def _address(name: object) -> Address | None:
    return parse_address(str(name[0])) if isinstance(name, tuple) and name else None
