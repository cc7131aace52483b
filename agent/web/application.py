"""Builds the aiohttp application."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.web.access import ACCESS, Access, guard
from agent.web.certificates import CertificateKeeper
from agent.web.connection import CLEAN_UPS, CONNECTIONS
from agent.web.context import CONTEXT, WebContext
from agent.web.errors import add_security_headers, errors_as_json
from agent.web.listeners import turn_away
from agent.web.routes import add_routes
from agent.web.sign_in import CERTIFICATES
from agent.web.token import TokenKeeper, new_token


def build_application(
    context: WebContext,
    access: Access | None = None,
    certificates: CertificateKeeper | None = None,
) -> web.Application:
    """The whole application; every listener serves it.

    Without `access` the token is one that nobody knows: only this machine is served.
    `certificates`: those of the listeners with TLS.
    """
    app = web.Application(middlewares=[turn_away, errors_as_json, guard])
    app[CONTEXT] = context
    app[ACCESS] = access or Access(context.config, TokenKeeper(new_token()))
    app[CERTIFICATES] = certificates
    sockets: set[Any] = set()
    clean_ups: set[Any] = set()
    app[CONNECTIONS] = sockets
    app[CLEAN_UPS] = clean_ups
    add_routes(app)
    app.on_response_prepare.append(add_security_headers)
    app.on_shutdown.append(_close_sockets)
    return app


async def _close_sockets(app: web.Application) -> None:
    """Every open socket gets its finals and a close with 1001."""
    connections: set[Any] = app[CONNECTIONS]
    await asyncio.gather(*(connection.stop() for connection in tuple(connections)))
    clean_ups: set[Any] = app[CLEAN_UPS]
    await asyncio.gather(*clean_ups, return_exceptions=True)
