"""Servers on real sockets that play another box: healthy, sick, silent or strange."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import WSMsgType, web

GOOD = {
    "/livez": (200, "live\n"),
    "/readyz": (200, "ready\n"),
    "/health": (200, '{"status": "ok"}'),
}

Converse = Callable[[web.WebSocketResponse], Awaitable[None]]


def messages(*found: Mapping[str, Any]) -> Converse:
    """Reads to the end of input, then sends these."""

    async def converse(link: web.WebSocketResponse) -> None:
        async for message in link:
            if message.type is WSMsgType.TEXT and not json.loads(message.data)["is_speaking"]:
                break
        for fields in found:
            await link.send_json(fields)
        async for _ in link:  # until the other side closes
            continue

    return converse


def final(text: str, **more: Any) -> Converse:
    partial = {"mode": "2pass-online", "text": "打", "is_final": False}
    return messages(partial, {"mode": "2pass-offline", "text": text, "is_final": True, **more})


@contextmanager
def box(
    answers: Mapping[str, tuple[int, str]] | None = None,
    converse: Converse | None = None,
    context: ssl.SSLContext | None = None,
    seen: list[str] | None = None,
) -> Iterator[int]:
    """A server on a port of its own; `seen` collects the Authorization of each request."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(request.headers.get("Authorization", ""))
        if request.path == "/ws" and converse is not None:
            link = web.WebSocketResponse(protocols=("binary",))
            await link.prepare(request)
            await converse(link)
            return link
        status, body = (GOOD if answers is None else answers).get(request.path, (404, "no"))
        if status == 0:
            await asyncio.sleep(30)
        return web.Response(status=status, text=body)

    loop = asyncio.new_event_loop()
    ready: list[int] = []

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        ready.append(runner.addresses[0][1])
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield ready[0]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def tcp(talk: bytes = b"") -> Iterator[int]:
    """A server that accepts, sends `talk` and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    connection.sendall(talk)
                except OSError:
                    return
                held.append(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()
