"""`/api/v1/stream`: live audio that survives a broken network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import WSCloseCode, web

from agent.errors import AgentError, ProtocolError, StreamFailed
from agent.log_context import SESSION
from agent.pipeline.resume import ResumableStream
from agent.protocols.events import (
    Ping,
    Start,
    Stop,
    describe,
    parse_audio_frame,
    parse_client_message,
)
from agent.types import StreamError, StreamFinished
from agent.web.connection import Connection, cancel_all, finish_and_send
from agent.web.remarks import remarks_fields, tell_remarks

OWNERS: web.AppKey[dict[str, Any]] = web.AppKey("owners", dict[str, Any])
"""Resume id -> the `StreamConnection` that came last: only it may leave the stream to expire."""


class StreamConnection(Connection):
    """Worker of one socket; the stream lives on in the registry when the socket is cut."""

    _stream: ResumableStream | None = None
    _sender: asyncio.Task[None] | None = None

    async def on_message(self, message: str | bytes) -> None:
        """Audio, or a JSON message of the client."""
        if isinstance(message, bytes):
            await self._audio(message)
            return
        parsed = parse_client_message(message)
        if isinstance(parsed, Ping):
            await self._send({"type": "pong", "t": parsed.t})
        elif isinstance(parsed, Stop):
            await self._started().finish()
        else:
            await self._start(parsed)

    async def on_idle(self) -> None:
        """A client that sends nothing any more has ended."""
        if self._stream is not None:
            await self._stream.finish()
            return
        idle_s = self.context.config.stream.idle_s
        await self.close(WSCloseCode.GOING_AWAY, f"nothing came for {idle_s:g} s (stream.idle_s)")

    async def on_stop(self) -> None:
        """Finish the stream and wait for its finals to be sent."""
        await finish_and_send(self._stream, self._sender)

    async def on_closed(self) -> None:
        """Leave the stream to its client's next socket."""
        if self._sender is not None:
            await cancel_all(self._sender)
        if self._stream is None:
            return
        owners = self._request.app[OWNERS]
        if owners.get(self._stream.resume_id) is self:
            del owners[self._stream.resume_id]
            self._stream.detach()

    async def refuse(self, error: AgentError) -> None:
        """An error event before the close code."""
        await self._send({"type": "error", "code": error.code, "message": error.message})

    async def _start(self, start: Start) -> None:
        if self._stream is not None:
            raise ProtocolError("the stream has been started already")
        known = self.context.streams.resume(start.resume_id) if start.resume_id else None
        self._stream = known or await self.context.streams.start(start.options)
        SESSION.set(self._stream.session_id)
        self._request.app[OWNERS][self._stream.resume_id] = self
        remarks: tuple[str, ...] = ()
        if known is None:
            options, mode = start.options, self._stream.mode
            told = await tell_remarks(self.context, self._stream.session_id, options, mode)
            remarks = (*self._stream.degraded, *told)
        await self._send(
            {
                "type": "started",
                "resume_id": self._stream.resume_id,
                "session_id": self._stream.session_id,
                "next_sample": self._stream.next_sample,
                "resumed": known is not None,
                **remarks_fields(remarks),
            }
        )
        after = start.received_seq if known is not None else 0
        self._sender = asyncio.create_task(self._send_events(self._stream, after))

    async def _audio(self, message: bytes) -> None:
        index, samples = parse_audio_frame(message)
        try:
            next_sample = await self._started().push(index, samples)
        except StreamFailed:
            return  # the error event has said so
        await self._send({"type": "ack", "next_sample": next_sample})

    def _started(self) -> ResumableStream:
        if self._stream is None:
            raise ProtocolError('send {"type": "start"} first')
        return self._stream

    async def _send_events(self, stream: ResumableStream, after: int) -> None:
        """Events until the stream ends, or until another socket takes it over."""
        ended = False
        try:
            async for seq, event in stream.events(after):
                kind, fields = describe(event)
                await self._send({"type": kind, "seq": seq, **fields})
                ended = isinstance(event, StreamFinished | StreamError)
        except ConnectionError:
            return  # the reader sees the end of the socket
        if ended:
            await self.close(WSCloseCode.OK, "the stream has ended")
        else:
            self._stream = None  # it belongs to the other socket now
            await self.close(WSCloseCode.POLICY_VIOLATION, "resumed by another connection")

    async def _send(self, message: dict[str, Any]) -> None:
        await self.send_text(json.dumps(message, ensure_ascii=False))
