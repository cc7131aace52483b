"""Who is at the other end of a request, as the connection itself says; no header is believed."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from aiohttp import web

from agent.networks import Address, parse_address


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


def _address(name: object) -> Address | None:
    return parse_address(str(name[0])) if isinstance(name, tuple) and name else None
