"""A stand-in for the agent's web side: the page's files, status, uploads and resumable streams.

What it "recognises" depends on the samples alone, so that a transcript shows whether audio was
lost or taken twice: a segment is a run of loud hops, its text names the run's length and sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

import agent.web
from agent.types import Int16

STATIC = Path(agent.web.__file__).parent / "static"
HOP = 1600
LOUD_RMS = 300
QUIET_HOPS = 5
PARTIAL_HOPS = 3
CONTENT_POLICY = "default-src 'self'"

STATUS = {
    "version": "0.1.0",
    "board": "Test board",
    "models": [
        {
            "role": "vad",
            "id": "my-vad",
            "variant": "int8",
            "provider": "cpu",
            "pinned": False,
            "refused": [],
        },
        {
            "role": "asr_offline",
            "id": "builtin-offline",
            "variant": "int8",
            "provider": "cpu",
            "refused": [
                {
                    "id": "paraformer-zh",
                    "code": "integrity",
                    "message": "model_quant.onnx: sha256 is 3f2a, manifest says 91bc",
                }
            ],
        },
    ],
    "sessions": {"open": 0},
}


@dataclass
class FakeStream:
    """One resumable stream: the samples taken, and its events."""

    resume_id: str
    start: dict[str, Any]
    taken: list[Int16] = field(default_factory=list)
    next_sample: int = 0
    duplicates: int = 0
    """Samples that were sent although the stream had them."""
    frame_sizes: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    _heard: int = 0
    _segment: int = -1
    _begin: int = 0
    _quiet: int = 0
    _open: bool = False

    @property
    def samples(self) -> Int16:
        """Everything taken, in order, shape [n]."""
        return np.concatenate([np.zeros(0, np.int16), *self.taken])

    def push(self, index: int, samples: Int16) -> None:
        self.frame_sizes.append(len(samples))
        if index > self.next_sample:
            lost = index - self.next_sample
            self._emit("gap", start_ms=self.next_sample // 16, dropped_ms=lost // 16)
            self.taken.append(np.zeros(lost, np.int16))
            self.next_sample = index
        known = self.next_sample - index
        self.duplicates += min(known, len(samples))
        fresh = samples[known:]
        self.taken.append(fresh)
        self.next_sample += len(fresh)
        self._listen()

    def finish(self) -> None:
        if self.finished:
            return
        self.finished = True
        if self._open:
            self._close(self.next_sample)
        self._emit("stopped", duration_ms=self.next_sample // 16)

    def _listen(self) -> None:
        while self.next_sample - self._heard >= HOP:
            audio = self.samples
            hop = audio[self._heard : self._heard + HOP].astype(np.float64)
            loud = np.sqrt(np.mean(hop**2)) > LOUD_RMS
            if loud and not self._open:
                self._open, self._begin, self._segment = True, self._heard, self._segment + 1
                self._emit("voice_started", segment_id=self._segment, start_ms=self._begin // 16)
            self._heard += HOP
            self._quiet = 0 if loud else self._quiet + 1
            if self._open and self._quiet >= QUIET_HOPS:
                self._close(self._heard)
            elif self._open and (self._heard - self._begin) % (PARTIAL_HOPS * HOP) == 0:
                self._text("partial", self._heard)

    def _close(self, end: int) -> None:
        self._emit("voice_stopped", segment_id=self._segment, end_ms=end // 16)
        self._text("final", end)
        self._open = False

    def _text(self, kind: str, end: int) -> None:
        part = self.samples[self._begin : end].astype(np.int64)
        text = f"{kind} of {len(part)} samples, sum {int(np.abs(part).sum())}"
        span = {"start_ms": self._begin // 16, "end_ms": end // 16}
        self._emit(kind, segment_id=self._segment, text=text, **span)

    def _emit(self, kind: str, **fields: Any) -> None:
        self.events.append({"type": kind, "seq": len(self.events) + 1, **fields})


class FakeAgent:
    """Serves on a port of the system's choice within `async with`."""

    def __init__(self) -> None:
        self.streams: dict[str, FakeStream] = {}
        self.connections = 0
        self.drop_after: list[int] = []
        """Audio frames after which each connection in turn is aborted; then no more aborts."""
        self.refuse: dict[str, str] | None = None
        """An error that answers every start."""
        self.remarks: dict[str, Any] = {}
        """Fields of every start's answer that say what can't be honoured."""
        self.uploads: list[tuple[str, bytes, dict[str, str]]] = []
        self.sessions: list[dict[str, Any]] = []
        """Those that a snapshot names as open."""
        self.snapshot_seq = 0
        self.health: dict[str, Any] = {"status": "ok", "checks": []}
        self.refuse_connections = False
        self.viewers: set[web.WebSocketResponse] = set()
        self._ids = itertools.count()
        self._changed = asyncio.Condition()

    @property
    def only_stream(self) -> FakeStream:
        (stream,) = self.streams.values()
        return stream

    @property
    def taken(self) -> int:
        """Samples taken by all streams together."""
        return sum(stream.next_sample for stream in self.streams.values())

    async def __aenter__(self) -> FakeAgent:
        app = web.Application(client_max_size=2**26)
        app.add_routes(
            [
                web.get("/", self._page),
                web.static("/static", STATIC),
                web.get("/api/v1/status", self._json(lambda: STATUS)),
                web.get("/health", self._json(lambda: self.health)),
                web.get("/api/v1/events", self._viewer),
                web.get("/api/v1/stream", self._stream),
                web.post("/v1/audio/transcriptions", self._upload),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def announce(self, event: dict[str, Any]) -> None:
        """An event to every viewer of /api/v1/events."""
        for viewer in self.viewers:
            await viewer.send_json(event)

    def forget_streams(self) -> None:
        """As a restarted agent: no resume_id is known any more."""
        self.streams = {f"gone-{i}": s for i, s in enumerate(self.streams.values())}

    @staticmethod
    def _json(body: Any) -> Any:
        async def handler(request: web.Request) -> web.Response:
            return web.json_response(body())

        return handler

    async def _page(self, request: web.Request) -> web.FileResponse:
        headers = {"Content-Security-Policy": CONTENT_POLICY}
        return web.FileResponse(STATIC / "index.html", headers=headers)

    async def _viewer(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        said = {"status": STATUS, "sessions": self.sessions}
        await socket.send_json({"type": "snapshot", "seq": self.snapshot_seq, **said})
        self.viewers.add(socket)
        async for _ in socket:
            pass
        self.viewers.discard(socket)
        return socket

    async def _upload(self, request: web.Request) -> web.Response:
        name, content, fields = "", b"", {}
        async for part in await request.multipart():
            if part.name == "file":
                name, content = part.filename, bytes(await part.read())
            else:
                fields[part.name] = await part.text()
        self.uploads.append((name, content, fields))
        segment = {"start": 0.3, "end": 1.2, "text": "turn on the light"}
        done = {"text": segment["text"], "duration": 1.5, "segments": [segment]}
        event = json.dumps({"type": "transcript.text.done", **done})
        return web.Response(text=f"data: {event}\n\n", content_type="text/event-stream")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_connections:
            raise web.HTTPServiceUnavailable
        self.connections += 1
        drop_after = self.drop_after.pop(0) if self.drop_after else None
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):  # a cut is what these tests are about
            await self._serve(request, socket, drop_after)
        return socket

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, drop_after: int | None
    ) -> None:
        stream = FakeStream("none", {})
        sender: asyncio.Task[None] | None = None
        frames = 0
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    index = int.from_bytes(message.data[:8], "little")
                    stream.push(index, np.frombuffer(message.data[8:], "<i2"))
                    frames += 1
                    if frames == drop_after:
                        request.transport.abort()
                        return
                    await socket.send_json({"type": "ack", "next_sample": stream.next_sample})
                else:
                    body = json.loads(message.data)
                    if body["type"] == "ping":
                        await socket.send_json({"type": "pong", "t": body["t"]})
                    elif body["type"] == "stop":
                        stream.finish()
                    elif self.refuse is not None:
                        await socket.send_json({"type": "error", **self.refuse})
                        await socket.close(code=1013, message=b"refused")
                    else:
                        stream = await self._start(socket, body)
                        sender = asyncio.create_task(
                            self._send_events(socket, stream, body.get("received_seq", 0))
                        )
                async with self._changed:
                    self._changed.notify_all()
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _start(self, socket: web.WebSocketResponse, body: dict[str, Any]) -> FakeStream:
        known = self.streams.get(body.get("resume_id", ""))
        stream = known or FakeStream(f"resume-{next(self._ids)}", body)
        self.streams[stream.resume_id] = stream
        await socket.send_json(
            {
                "type": "started",
                "resume_id": stream.resume_id,
                "session_id": f"session-{stream.resume_id}",
                "next_sample": stream.next_sample,
                "resumed": known is not None,
                **self.remarks,
            }
        )
        return stream

    async def _send_events(
        self, socket: web.WebSocketResponse, stream: FakeStream, after: int
    ) -> None:
        sent = after
        while True:
            for event in stream.events[sent:]:
                await socket.send_json(event)
                sent += 1
            async with self._changed:
                await self._changed.wait_for(lambda: len(stream.events) > sent)  # noqa: B023
