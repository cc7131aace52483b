"""`/v1/realtime`: OpenAI's realtime transcription."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass

from aiohttp import WSCloseCode, web

from agent.errors import AgentError, NotReady, StreamFailed
from agent.pipeline.service import LiveStream
from agent.protocols.openai import BadRequest
from agent.protocols.openai_realtime import (
    Append,
    Clear,
    Commit,
    RealtimeError,
    RealtimeSettings,
    Update,
    decode_audio,
    parse_event,
)
from agent.protocols.openai_realtime_writer import Event, RealtimeWriter, TurnWriter
from agent.web.connection import Connection, cancel_all
from agent.web.context import WebContext
from agent.web.remarks import tell_remarks

SOURCE = "openai"
_MAX_TURNS = 4
"""Committed turns whose texts are not out yet; beyond it the client is slowed."""
_MS = 1000


@dataclass
class _Turn:
    """A stretch of audio with a stream of its own."""

    stream: LiveStream
    writer: TurnWriter


class RealtimeConnection(Connection):
    """Worker of one socket. Audio goes to the turn that is open; each commit begins another."""

    def __init__(self, request: web.Request, context: WebContext) -> None:
        super().__init__(request, context)
        if request.query.get("intent", "transcription") != "transcription":
            raise BadRequest("this box only transcribes: connect with ?intent=transcription")
        self._is_old = "realtime=v1" in request.headers.get("OpenAI-Beta", "")
        self._id = f"sess_{uuid.uuid4().hex[:20]}"
        self._settings = RealtimeSettings(model=request.query.get("model", "")[:200])
        self._writer = RealtimeWriter(lambda prefix: f"{prefix}_{uuid.uuid4().hex[:20]}")
        self._turn: _Turn | None = None
        self._turns: asyncio.Queue[_Turn | None] = asyncio.Queue(_MAX_TURNS)
        self._sender: asyncio.Task[None] | None = None
        self._odd = b""
        self._passed_ms = 0.0
        """Audio of the session so far."""

    async def on_open(self) -> None:
        """The session begins with today's settings, or the beta's where its header says so."""
        if self.context.service.models is None:
            raise NotReady("no model is ready to transcribe; see /health")
        self._sender = asyncio.create_task(self._send_turns(), name="realtime-sender")
        await self._tell_session("created", self._is_old)

    async def on_message(self, message: str | bytes) -> None:
        """One event of the client. What is wrong with it is said, and the session goes on."""
        try:
            if isinstance(message, bytes):
                raise RealtimeError("send text messages with JSON; audio goes in base64")
            event, event_id = parse_event(message, self._settings)
        except RealtimeError as error:
            await self._complain(error, error.event_id)
            return
        if isinstance(event, Update):
            await self._end_turn()
            self._settings = event.settings
            await self._tell_session("updated", event.is_old)
        elif isinstance(event, Append):
            await self._append(event.data)
        elif isinstance(event, Commit):
            await self._commit(event_id)
        else:
            assert isinstance(event, Clear)
            await self._clear()

    async def on_idle(self) -> None:
        """A client that sends nothing any more has ended."""
        idle_s = self.context.config.stream.idle_s
        await self.on_stop()
        await self.close(WSCloseCode.GOING_AWAY, f"nothing came for {idle_s:g} s (stream.idle_s)")

    async def on_stop(self) -> None:
        """Finish what is open, and wait until its texts are out."""
        if self._sender is None:
            return
        await self._end_turn()
        await self._turns.put(None)
        await asyncio.wait({self._sender})

    async def on_closed(self) -> None:
        """Drop the streams."""
        if self._sender is not None:
            await cancel_all(self._sender)
        turns = [self._turn]
        while not self._turns.empty():
            turns.append(self._turns.get_nowait())
        for turn in turns:
            if turn is not None:
                await turn.stream.aclose()

    async def refuse(self, error: AgentError) -> None:
        """An error event before the close code."""
        await self._send(self._writer.error(error.message, kind="server_error", code=error.code))

    async def _append(self, data: bytes) -> None:
        samples, self._odd = decode_audio(self._odd + data, self._settings)
        if not len(samples):
            return
        turn = self._turn or await self._begin_turn()
        self._passed_ms += len(samples) * _MS / self._settings.rate
        try:
            await turn.stream.push(samples)
        except StreamFailed:
            self._turn = None  # the sender tells of it; later audio begins anew

    async def _begin_turn(self) -> _Turn:
        options = self._settings.options()
        stream = await self.context.service.open(options, source=SOURCE)
        writer = self._writer.turns(round(self._passed_ms), finds_turns=self._settings.finds_turns)
        self._turn = turn = _Turn(stream, writer)
        await self._turns.put(turn)
        await tell_remarks(self.context, stream.session_id, options, stream.mode)
        return turn

    async def _commit(self, event_id: str | None) -> None:
        turn = self._turn
        if turn is None:
            empty = RealtimeError(
                "nothing was sent since the last commit", code="input_audio_buffer_commit_empty"
            )
            await self._complain(empty, event_id)
            return
        for event in turn.writer.commit():
            await self._send(event)
        await self._end_turn()

    async def _clear(self) -> None:
        turn, self._turn, self._odd = self._turn, None, b""
        if turn is not None:
            await turn.stream.aclose()
        await self._send(self._writer.event("input_audio_buffer.cleared"))

    async def _end_turn(self) -> None:
        turn, self._turn, self._odd = self._turn, None, b""
        if turn is not None:
            await turn.stream.finish()

    async def _send_turns(self) -> None:
        """The events of each turn, one turn after the other."""
        try:
            while (turn := await self._turns.get()) is not None:
                try:
                    async for event in turn.stream:
                        for told in turn.writer.send(event):
                            await self._send(told)
                finally:
                    await turn.stream.aclose()
        except ConnectionError:
            return  # the reader sees the end of the socket

    async def _tell_session(self, verb: str, is_old: bool) -> None:
        recognition = self.context.config.recognition
        vad = {
            "silence_duration_ms": recognition.max_end_silence_ms,
            "prefix_padding_ms": recognition.pre_roll_ms,
        }
        kind = "transcription_session" if is_old else "session"
        shown = self._settings.to_old_json(vad) if is_old else self._settings.to_json(vad)
        about = {"id": self._id, "object": "realtime.transcription_session", **shown}
        await self._send(self._writer.event(f"{kind}.{verb}", session=about))

    async def _complain(self, error: RealtimeError, event_id: str | None) -> None:
        told = self._writer.error(
            error.message, code=error.code, param=error.param, event_id=event_id
        )
        await self._send(told)

    async def _send(self, event: Event) -> None:
        await self.send_text(json.dumps(event, ensure_ascii=False))
