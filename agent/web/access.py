"""Who may open a WebSocket from a browser."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web


def check_origin(request: web.Request, *, allow_local_files: bool = False) -> None:
    """Refuse a foreign page's socket with 403.

    Programs send no Origin and are let in. Pages must come from this box itself;
    `allow_local_files` lets in pages opened from a disk (Origin `null`) on the box itself, as
    FunASR's html5 client is used.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if origin == "null":
        if allow_local_files and _is_loopback(request.remote):
            return
    elif urlsplit(origin).netloc.lower() == request.host.lower():
        return
    raise web.HTTPForbidden(text=f"pages from {origin} may not use this box")


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
