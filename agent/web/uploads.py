"""`POST /v1/audio/transcriptions`: a file, streamed to disk, read by the same pipeline."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from agent.errors import NotReady, Overloaded
from agent.pipeline.files import FileProgress, transcribe_file
from agent.protocols.openai import TranscriptionRequest, parse_fields
from agent.protocols.openai_replies import (
    END_OF_EVENTS,
    KEEP_ALIVE,
    TextGrower,
    delta_event,
    done_event,
    encode_event,
    progress_event,
    render,
)
from agent.types import FileTranscript, RecognitionMode, StreamOptions, Transcript
from agent.web.connection import CONNECTIONS
from agent.web.context import CONTEXT, WebContext
from agent.web.errors import error_event
from agent.web.form import new_file, receive_form
from agent.web.remarks import remarks_of

T = TypeVar("T")

_LOOK_S = 0.25
"""How often a request that is being read is looked after."""
_KEEP_ALIVE_S = 10.0
_CLIENT_GONE = 408
_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}

DECODERS: web.AppKey[asyncio.Semaphore] = web.AppKey("decoders", asyncio.Semaphore)
"""One permit for each file that may be read at a time, however it came (uploads.concurrent)."""


async def transcribe(request: web.Request) -> web.StreamResponse:
    """The handler. Raises Overloaded when the most files are being read already."""
    context, decoders = request.app[CONTEXT], request.app[DECODERS]
    if decoders.locked():
        raise Overloaded(
            f"{context.config.uploads.concurrent} files are being read, the most at a time "
            "(uploads.concurrent); try again later"
        )
    upload = Upload(request)
    request.app[CONNECTIONS].add(upload)
    try:
        async with decoders:
            return await upload.serve()
    finally:
        request.app[CONNECTIONS].discard(upload)


async def read_upload(
    context: WebContext, path: Path, options: StreamOptions, name: str
) -> FileTranscript:
    """Transcribe a received file, which messages call `name`. Raises like `transcribe_file`."""
    return await transcribe_file(
        context.service,
        path,
        options,
        name=name or "the file",
        max_duration_s=context.config.uploads.max_duration_s,
    )


class Upload:
    """One file on its way; the application stops it like an open socket."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._context = request.app[CONTEXT]
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self._progress = FileProgress()
        self._said: asyncio.Queue[Transcript] = asyncio.Queue(1)
        """A final that waits to be sent; a slow client slows reading."""

    async def stop(self) -> None:
        """The agent stops: the file is not read to its end."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def serve(self) -> web.StreamResponse:
        """Receive the file, read it, answer."""
        with new_file(self._context.config.state_dir) as file:
            form = await self._while_wanted(receive_form(self._request, file))
            if form is None:
                return web.Response(status=_CLIENT_GONE)
            wanted = parse_fields(form.fields)
            remarks = await self._remarks(wanted.options)
            path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            reading = transcribe_file(
                self._context.service,
                path,
                wanted.options,
                name=form.name or "the file",
                progress=self._progress,
                on_final=self._said.put if wanted.stream else None,
                max_duration_s=self._context.config.uploads.max_duration_s,
            )
            if wanted.stream:
                return await self._stream(reading, wanted, remarks)
            read = await self._while_wanted(reading)
        if read is None:
            return web.Response(status=_CLIENT_GONE)
        return _answer(read, wanted, remarks)

    async def _remarks(self, options: StreamOptions) -> tuple[str, ...]:
        models = self._context.service.models
        if models is None or not options.hotwords:
            return ()
        return await asyncio.to_thread(remarks_of, models, options, RecognitionMode.OFFLINE)

    async def _while_wanted(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None, with the work given up, when the client has gone."""
        self._task = task = asyncio.create_task(work, name="upload")
        try:
            if self._stopping:
                task.cancel()
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_S)
                if not task.done() and self._is_gone():
                    return None
            self._raise_if_stopped(task)
            return task.result()
        finally:
            await _ended(task)

    async def _stream(
        self,
        reading: Coroutine[Any, Any, FileTranscript],
        wanted: TranscriptionRequest,
        remarks: tuple[str, ...],
    ) -> web.StreamResponse:
        """Server-sent events. What fails before the first of them is an answer of its own."""
        self._task = task = asyncio.create_task(reading, name="upload")
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        try:
            while not task.done() and not self._progress.position_s and not self._is_gone():
                await asyncio.wait({task}, timeout=_LOOK_S / 10)
            if self._is_gone():
                return web.Response(status=_CLIENT_GONE)
            if task.done() and (self._stopping or task.exception() is not None):
                self._raise_if_stopped(task)
                task.result()
            await response.prepare(self._request)
            await self._send_events(task, response, wanted, remarks)
        except ConnectionError:
            pass  # the client has gone: nobody is left to be told
        finally:
            await _ended(task)
        return response

    async def _send_events(
        self,
        task: asyncio.Task[FileTranscript],
        response: web.StreamResponse,
        wanted: TranscriptionRequest,
        remarks: tuple[str, ...],
    ) -> None:
        grower, written = TextGrower(), time.monotonic()
        wait_s = _LOOK_S if wanted.progress else _KEEP_ALIVE_S
        while not task.done() or not self._said.empty():
            said = await self._next_final(task)
            if said is not None:
                await response.write(encode_event(delta_event(grower.add(said.text))))
            if time.monotonic() - written >= wait_s:
                written = time.monotonic()
                alive = encode_event(self._position()) if wanted.progress else KEEP_ALIVE
                await response.write(alive)
            if self._is_gone():
                return
        try:
            self._raise_if_stopped(task)
            last = encode_event(done_event(task.result(), wanted, remarks))
        except Exception as error:  # noqa: BLE001 - the status has been sent, the error goes here
            await response.write(encode_event(error_event(self._request, error)))
            return
        if wanted.progress:
            await response.write(encode_event(self._position()))
        await response.write(last + END_OF_EVENTS)
        await response.write_eof()

    async def _next_final(self, task: asyncio.Task[FileTranscript]) -> Transcript | None:
        """The next final; None when none came for a moment, or the reading has ended."""
        if self._said.empty():
            getting = asyncio.ensure_future(self._said.get())
            await asyncio.wait(
                {getting, task}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not getting.done():
                getting.cancel()
                return None
            return getting.result()
        return self._said.get_nowait()

    def _position(self) -> dict[str, Any]:
        return progress_event(self._progress.position_s, self._progress.duration_s)

    def _is_gone(self) -> bool:
        return self._request.transport is None or self._request.transport.is_closing()

    def _raise_if_stopped(self, task: asyncio.Task[Any]) -> None:
        if self._stopping and task.cancelled():
            raise NotReady("the agent is stopping; send the file again when it has started")


def _answer(
    read: FileTranscript, wanted: TranscriptionRequest, remarks: tuple[str, ...]
) -> web.Response:
    body, content_type = render(read, wanted, remarks)
    if isinstance(body, str):
        return web.Response(text=body, content_type=content_type)
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))


async def _ended(task: asyncio.Task[Any]) -> None:
    """Give up a task, and wait until all that it holds is free."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
