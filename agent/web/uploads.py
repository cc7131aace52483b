"""`POST /v1/audio/transcriptions`: a file, streamed to disk, read by the same pipeline."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from aiohttp import BodyPartReader, web

from agent.errors import Overloaded
from agent.pipeline.files import transcribe_file
from agent.protocols.openai import BadRequest, parse_fields, render
from agent.types import FileTranscript, StreamOptions
from agent.web.context import CONTEXT, WebContext
from agent.web.errors import MALFORMED_BODY, TooLarge

T = TypeVar("T")

_PIECE = 1 << 18
_MAX_FIELD = 1 << 16
_MAX_NAME = 200
_LOOK_S = 0.5
"""How often a request that is being read is looked after."""
_CLIENT_GONE = 408


DECODERS: web.AppKey[asyncio.Semaphore] = web.AppKey("decoders", asyncio.Semaphore)
"""One permit for each file that may be read at a time, however it came (uploads.concurrent)."""


async def transcribe(request: web.Request) -> web.Response:
    """The handler. Raises Overloaded when the most files are being read already."""
    context, decoders = request.app[CONTEXT], request.app[DECODERS]
    if decoders.locked():
        raise Overloaded(
            f"{context.config.uploads.concurrent} files are being read, the most at a time "
            "(uploads.concurrent); try again later"
        )
    async with decoders:
        with tempfile.NamedTemporaryFile(prefix="funasr-agent-") as file:
            fields, name = await _receive(request, context, file)
            wanted = parse_fields(fields)
            reading = read_upload(context, Path(file.name), wanted.options, name)
            read = await _while_connected(request, reading)
    if read is None:
        return web.Response(status=_CLIENT_GONE)
    body, content_type = render(read, wanted.response_format)
    if isinstance(body, str):
        return web.Response(text=body, content_type=content_type)
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))


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


async def _while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None, with the work given up, when the client has gone."""
    task = asyncio.create_task(work, name="upload")
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_S)
            if not task.done() and (request.transport is None or request.transport.is_closing()):
                return None
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _receive(
    request: web.Request, context: WebContext, file: IO[bytes]
) -> tuple[dict[str, str], str]:
    """Write the part `file` to `file`; the other parts as texts, and the file's name."""
    if not request.content_type.startswith("multipart/"):
        raise BadRequest("send multipart/form-data with a part named file")
    limit_mb = context.config.uploads.max_mb
    if request.content_length is not None and request.content_length > (limit_mb + 1) * 2**20:
        raise TooLarge(f"the file is larger than {limit_mb} MB (uploads.max_mb)")
    fields: dict[str, str] = {}
    name: str | None = None
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise BadRequest("nested multipart is not taken")
            if part.name == "file":
                if name is not None:
                    raise BadRequest("there are two parts named file; send one file a request")
                name = Path(part.filename or "").name[:_MAX_NAME]
                await _save(part, file, limit_mb)
            elif part.name:
                fields[part.name] = await _text(part)
    except MALFORMED_BODY as error:
        raise BadRequest(f"the multipart body is malformed: {error}") from None
    if name is None:
        raise BadRequest("there is no part named file")
    return fields, name


async def _save(part: BodyPartReader, file: IO[bytes], limit_mb: int) -> None:
    size = 0
    while piece := await part.read_chunk(_PIECE):
        size += len(piece)
        if size > limit_mb * 2**20:
            raise TooLarge(f"the file is larger than {limit_mb} MB (uploads.max_mb)")
        await asyncio.to_thread(file.write, piece)
    await asyncio.to_thread(file.flush)


async def _text(part: BodyPartReader) -> str:
    data = b""
    while piece := await part.read_chunk(_MAX_FIELD):
        data += piece
        if len(data) > _MAX_FIELD:
            raise BadRequest(f"the field {part.name} is longer than {_MAX_FIELD} bytes")
    return data.decode("utf-8", errors="replace")
