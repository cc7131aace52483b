"""The sign-in page, what it needs, and the token for the box's own commands."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from agent.protocols.openai import BadRequest
from agent.web.access import ACCESS, GRANT, SIGN_IN, Grant
from agent.web.certificates import CertificateKeeper
from agent.web.connection import CLEAN_UPS, CONNECTIONS, Connection
from agent.web.context import CONTEXT
from agent.web.json_body import read_object
from agent.web.token import TokenError, new_token, read_token, write_token

_log = logging.getLogger(__name__)

CERTIFICATES: web.AppKey[CertificateKeeper | None] = web.AppKey(
    "certificates",
    CertificateKeeper,
)
"""None where the application is served by other means."""
_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "sign-in.js": _FOLDER / "sign-in" / "sign-in.js",
    "words.js": _FOLDER / "sign-in" / "words.js",
    "sign-in.css": _FOLDER / "sign-in" / "sign-in.css",
    "trust": _FOLDER / "sign-in" / "trust.html",
    "icon.svg": _FOLDER / "icon.svg",
}
_NO_CACHE = {"Cache-Control": "no-cache"}
_BODY_S = 5.0
"""A sign-in is a few bytes; whoever sends them slower is turned away."""


def sign_in_routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [
        web.get(SIGN_IN, page),
        web.post(SIGN_IN, sign_in),
        web.delete(SIGN_IN, sign_out),
        web.get(SIGN_IN + "/{name}", asset),
        web.get("/api/v1/token", show_token),
        web.post("/api/v1/token", rotate_token),
    ]


async def page(request: web.Request) -> web.FileResponse:
    """The sign-in page."""
    return web.FileResponse(_FOLDER / "sign-in" / "index.html", headers=_NO_CACHE)


async def asset(request: web.Request) -> web.StreamResponse:
    """A file of the page, the box's certificate authority, or what the page says of the box."""
    name = request.match_info["name"]
    made: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        "about": about,
        "certificate.crt": certificate,
    }
    if name in made:
        return await made[name](request)
    if name not in _FILES:
        raise web.HTTPNotFound(text=f"there is no {SIGN_IN}/{name[:100]}")
    headers = dict(_NO_CACHE)
    if name == "trust":
        headers["Content-Type"] = "text/html; charset=utf-8"
    return web.FileResponse(_FILES[name], headers=headers)


async def about(request: web.Request) -> web.Response:
    """Name of the box, fingerprints, whether this browser is signed in and could sign in here."""
    access, certificates = request.app[ACCESS], request.app[CERTIFICATES]
    trust = certificates.trust if certificates else None
    grant = request[GRANT]
    body = {
        "name": socket.gethostname(),
        "signed_in": grant in (Grant.FREE, Grant.COOKIE, Grant.OWNER),
        "can_sign_in": access.keeps_cookies(request),
        "sha256": trust.sha256 if trust else None,
        "own_authority": bool(trust and trust.authority),
        "authority_sha256": trust.authority_sha256 if trust else "",
    }
    return _json(body)


async def certificate(request: web.Request) -> web.Response:
    """The authority that vouches for the box, for people to trust."""
    certificates = request.app[CERTIFICATES]
    trust = certificates.trust if certificates else None
    authority = trust.authority if trust else None
    if authority is None:
        raise web.HTTPNotFound(
            text="the box has no authority of its own: it serves no TLS, or its owner's certificate"
        )
    name = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.")
    headers = {"Content-Disposition": f'attachment; filename="funasr-agent-{name}.crt"'}
    return web.Response(body=authority, content_type="application/x-x509-ca-cert", headers=headers)


async def sign_in(request: web.Request) -> web.Response:
    """`{"token": ...}` for a cookie."""
    access = request.app[ACCESS]
    if not access.keeps_cookies(request):
        raise web.HTTPForbidden(
            text="nobody signs in over plain http, where the network reads along; open https://, "
            "or add a listener with `tls: true`"
        )
    try:
        body = await asyncio.wait_for(read_object(request), _BODY_S)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {_BODY_S:g} s") from None
    token = body.get("token")
    if not isinstance(token, str) or set(body) != {"token"}:
        raise BadRequest('send {"token": "..."}')
    access.require_token(request, token)
    response = web.Response(status=204)
    access.sign_in(response)
    return response


async def sign_out(request: web.Request) -> web.Response:
    """Take the browser's cookie back."""
    response = web.Response(status=204)
    request.app[ACCESS].sign_out(response)
    return response


async def show_token(request: web.Request) -> web.Response:
    """The token, on the unix socket only."""
    _require_owner(request)
    return _json({"token": request.app[ACCESS].tokens.token})


async def rotate_token(request: web.Request) -> web.Response:
    """A new token, on the unix socket only; who came in by the old one is out at once."""
    _require_owner(request)
    token = new_token()
    await asyncio.to_thread(write_token, request.app[CONTEXT].config.state_dir, token)
    await take_token(request.app, token)
    return _json({"token": token})


async def take_token(app: web.Application, token: str) -> None:
    """From now on `token` is in force; sockets that were opened by another are closed."""
    if not app[ACCESS].tokens.use(token):
        return
    signed_in = [c for c in app[CONNECTIONS] if isinstance(c, Connection) and c.is_signed_in]
    reason = "the box's token was changed; sign in again"
    closing = (c.close(WSCloseCode.POLICY_VIOLATION, reason) for c in signed_in)
    await asyncio.gather(*closing, return_exceptions=True)


def close_barred(app: web.Application) -> None:
    """Close the sockets that the token and the rules in force would not let in, with their
    finals; in the background, a client may be slow to go."""
    access = app[ACCESS]
    open_now: set[Any] = app[CONNECTIONS]
    pending: set[Any] = app[CLEAN_UPS]
    for connection in tuple(open_now):
        if isinstance(connection, Connection) and not access.still_lets_in(connection.request):
            reason = "the box's rules of access were changed; sign in"
            work = connection.stop(WSCloseCode.POLICY_VIOLATION, reason)
            closing = asyncio.create_task(work, name="socket-barred")
            pending.add(closing)
            closing.add_done_callback(pending.discard)


async def watch_token(app: web.Application, every_s: float) -> None:
    """Take a token that was put into the state folder by other means; for ever."""
    state, told = app[CONTEXT].config.state_dir, ""
    while True:
        await asyncio.sleep(every_s)
        try:
            token = await asyncio.to_thread(read_token, state)
        except TokenError as error:
            if error.message != told:
                _log.error("the token in force stays: %s", error.message)
            told = error.message
            continue
        if token is not None:
            await take_token(app, token)


def _require_owner(request: web.Request) -> None:
    if request[GRANT] is not Grant.OWNER:
        raise web.HTTPForbidden(text="on the box itself: funasr-agent token show|rotate")


def _json(body: object) -> web.Response:
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))
