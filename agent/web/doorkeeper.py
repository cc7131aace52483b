"""Connections before they are requests: how many an address may hold, what of them is logged."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from agent.networks import parse_address

KEEP_ALIVE_S = 30.0
"""A connection on which no request becomes whole for so long is closed."""
LEAST_PER_ADDRESS = 256
"""Connections that one address may hold, however few streams are allowed."""


def make_runner(app: web.Application, most_sessions: int) -> web.AppRunner:
    """The runner of an application that `most_sessions` streams at a time may use."""
    runner = _Runner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, logger=_server_log())
    runner.most_per_address = max(LEAST_PER_ADDRESS, 2 * most_sessions)
    return runner


class _Runner(web.AppRunner):
    most_per_address = LEAST_PER_ADDRESS

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        _limit(server, self.most_per_address)
        return server


def _limit(server: web.Server, most: int) -> None:
    """One address of the network can't use up all connections; loopback is not counted."""
    held: Counter[str] = Counter()
    counted: dict[Any, str] = {}
    made, lost = server.connection_made, server.connection_lost

    def connection_made(handler: Any, transport: asyncio.Transport) -> None:
        made(handler, transport)
        name = transport.get_extra_info("peername")
        address = parse_address(str(name[0])) if isinstance(name, tuple) else None
        if address is None or address.is_loopback:
            return
        counted[handler] = str(address)
        held[str(address)] += 1
        if held[str(address)] > most:
            transport.abort()

    def connection_lost(handler: Any, error: BaseException | None = None) -> None:
        lost(handler, error)
        address = counted.pop(handler, None)
        if address is not None:
            held[address] -= 1
            if not held[address]:
                del held[address]

    # The server asks itself for these, so that no subclass of a private class is needed.
    vars(server).update(connection_made=connection_made, connection_lost=connection_lost)


def _server_log() -> logging.Logger:
    logger = logging.getLogger("agent.web.server")
    if not any(isinstance(known, _NoRequests) for known in logger.filters):
        logger.addFilter(_NoRequests())
    return logger


class _NoRequests(logging.Filter):
    """Malformed requests are told at debug level without their words: a token may be in them."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        record.exc_info = record.exc_text = None
        record.msg, record.args = "a malformed request was refused: %s", (type(error).__name__,)
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
