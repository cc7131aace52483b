"""What every WebSocket of the agent shares: one reader, one worker, pings, a clean end."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from agent.errors import AgentError, NotReady, Overloaded, ProtocolError
from agent.web.access import GRANT, Grant
from agent.web.context import WebContext

_log = logging.getLogger(__name__)

INBOX = 4
"""Messages read ahead of the worker; beyond it the client's TCP connection is slowed."""
SEND_TIMEOUT_S = 30.0
"""A client that takes no data for so long is gone."""
CANCEL_AGAIN_S = 1.0
"""A task that has not ended so long after its cancellation is cancelled again."""
_REASON_BYTES = 120
"""Longest close reason that fits a control frame."""
_FRAME_REASONS: dict[int, bytes] = {
    WSCloseCode.PROTOCOL_ERROR: b"the WebSocket frames are malformed",
    WSCloseCode.INVALID_TEXT: b"a text message is not UTF-8",
    WSCloseCode.MESSAGE_TOO_BIG: b"the message is too large (stream.max_message_bytes)",
}
"""Why aiohttp itself closes a socket; it gives the code only."""

CONNECTIONS = web.AppKey("connections", set[Any])
"""The application's open sockets, each a `Connection`."""
CLEAN_UPS = web.AppKey("clean_ups", set[Any])
"""Tasks that let go of what closed sockets held."""


class _Socket(web.WebSocketResponse):
    """A socket whose every refusal has a reason text."""

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        """Close; aiohttp calls this too, for frames that it refuses."""
        reason = message or _FRAME_REASONS.get(code, b"")
        return await super().close(code=code, message=reason, drain=drain)


async def cancel_all(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they have ended, also those that lose a cancellation on the way."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_S)


class Finishing(Protocol):
    """A stream that can be told that its audio has ended."""

    async def finish(self) -> None:
        """No more audio."""


async def finish_and_send(stream: Finishing | None, sender: asyncio.Task[None] | None) -> None:
    """End a stream's audio and wait until its sender has sent the last event."""
    if stream is not None:
        await stream.finish()
    if sender is not None:
        await asyncio.wait({sender})


class Connection:
    """One socket. Subclasses say what a message means (`on_message`) and what ends with it.

    The reader always reads, so that pings are answered while inference takes its time; the worker
    takes the messages in order.
    """

    def __init__(self, request: web.Request, context: WebContext) -> None:
        self.context = context
        self._request = request
        self._ws = _Socket(
            protocols=("binary",),
            max_msg_size=context.config.stream.max_message_bytes,
            compress=False,  # PCM does not shrink, and deflate costs more than recognition
        )
        self._inbox: asyncio.Queue[WSMessage | None] = asyncio.Queue(INBOX)
        self._stopping = asyncio.Event()
        self._busy = False
        self._heard = time.monotonic()
        """When a message came, or the work on one ended."""

    @property
    def is_signed_in(self) -> bool:
        """Whether it was let in by the token or a cookie that stands for it."""
        return self._request.get(GRANT) in (Grant.TOKEN, Grant.COOKIE)

    @property
    def request(self) -> web.Request:
        """The handshake."""
        return self._request

    async def on_open(self) -> None:
        """The socket is open."""

    async def on_message(self, message: str | bytes) -> None:
        """The next message, text or binary."""

    async def on_idle(self) -> None:
        """Nothing came for `stream.idle_s`."""

    async def on_stop(self) -> None:
        """The socket will be closed: finish what is open, so that finals go out."""

    async def on_closed(self) -> None:
        """The socket is gone: let go of what is held."""

    async def serve(self) -> web.WebSocketResponse:
        """Serve the socket until it ends."""
        await self._ws.prepare(self._request)
        connections = self._request.app[CONNECTIONS]
        connections.add(self)
        worker = asyncio.create_task(self._work(), name="socket-worker")
        pinger = asyncio.create_task(self._ping(), name="socket-ping")
        watcher = asyncio.create_task(self._watch_idle(), name="socket-idle")
        try:
            await self._read(worker)
        finally:
            connections.discard(self)
            await self._clean_up(worker, pinger, watcher)
        return self._ws

    async def stop(
        self, code: int = WSCloseCode.GOING_AWAY, reason: str = "the agent is stopping"
    ) -> None:
        """Take no more messages, finish, close."""
        self._stopping.set()
        try:
            await asyncio.wait_for(self.on_stop(), self.context.config.shutdown.timeout_s)
        except asyncio.TimeoutError:
            _log.warning("a socket's stream did not finish in time")
        await self.close(code, reason)

    async def send_text(self, text: str) -> None:
        """Send; waits while the client is slow. Raises ConnectionError when it is gone."""
        # Not asyncio.wait_for: before Python 3.12 it can swallow the cancellation of its caller.
        cut_off = asyncio.get_running_loop().call_later(SEND_TIMEOUT_S, self._abort)
        try:
            await self._ws.send_str(text)
        finally:
            cut_off.cancel()

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason; idempotent."""
        message = reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
        with suppress(ConnectionError):
            await self._ws.close(code=code, message=message)

    async def _clean_up(self, *tasks: asyncio.Task[None]) -> None:
        """Runs to its end even when the server cancels the handler of a lost connection."""

        async def clean() -> None:
            await cancel_all(*tasks)
            await self.on_closed()

        cleaning = asyncio.create_task(clean(), name="socket-clean-up")
        pending = self._request.app[CLEAN_UPS]
        pending.add(cleaning)
        cleaning.add_done_callback(pending.discard)
        await asyncio.shield(cleaning)

    async def _read(self, worker: asyncio.Task[None]) -> None:
        while not self._ws.closed and not worker.done():
            message = await self._ws.receive()
            self._heard = time.monotonic()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            if self._stopping.is_set():
                continue
            await self._hand_over(message, worker)

    async def _hand_over(self, message: WSMessage, worker: asyncio.Task[None]) -> None:
        """Give the worker a message, unless it ends first."""
        put = asyncio.create_task(self._inbox.put(message))
        try:
            await asyncio.wait({put, worker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            put.cancel()

    async def _work(self) -> None:
        try:
            await self.on_open()
            while True:
                message = await self._inbox.get()
                assert message is not None
                self._busy = True
                await self.on_message(message.data)
                self._busy, self._heard = False, time.monotonic()
        except ProtocolError as error:
            await self._refuse(error, error.close_code)
        except (Overloaded, NotReady) as error:
            await self._refuse(error, WSCloseCode.TRY_AGAIN_LATER)
        except ConnectionError:
            self._abort()
        except Exception as error:  # noqa: BLE001 - ends this socket only
            _log.exception("a socket failed")
            await self.close(WSCloseCode.INTERNAL_ERROR, f"the agent failed: {error}")

    async def _refuse(self, error: AgentError, close_code: int) -> None:
        with suppress(ConnectionError):  # it may have gone before it was told
            await self.refuse(error)
        await self.close(close_code, error.message)

    async def refuse(self, error: AgentError) -> None:
        """Say why the socket will be closed; some protocols have a message for it."""

    async def _watch_idle(self) -> None:
        """Own clock, since pongs alone would keep `receive` from ever timing out."""
        idle_s = self.context.config.stream.idle_s
        while not self._stopping.is_set():
            left = self._heard + idle_s - time.monotonic()
            if left > 0 or self._busy:
                await asyncio.sleep(left if left > 0 else idle_s)
                continue
            with suppress(ConnectionError):
                await self.on_idle()
            self._heard = time.monotonic()

    async def _ping(self) -> None:
        """Keep the way open. No answer is demanded: a loaded box or client may be late."""
        while True:
            await asyncio.sleep(self.context.config.stream.ping_s)
            with suppress(ConnectionError):
                await self._ws.ping()

    def _abort(self) -> None:
        transport: Any = self._request.transport
        if transport is not None:
            transport.abort()
