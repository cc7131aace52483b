"""`POST /v1/audio/transcriptions`: a file, streamed to disk, read by the same pipeline."""

from __future__ import annotations

import asyncio
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import IO

from aiohttp import BodyPartReader, web

from agent.errors import Overloaded
from agent.pipeline.files import transcribe_file
from agent.protocols.openai import BadRequest, parse_fields, render
from agent.web.context import CONTEXT, WebContext
from agent.web.errors import TooLarge

_PIECE = 1 << 18
_MAX_FIELD = 1 << 16


class Uploads:
    """Counts the files at work; owner of that number."""

    def __init__(self, concurrent: int) -> None:
        self._concurrent = concurrent
        self._active = 0

    async def transcribe(self, request: web.Request) -> web.Response:
        """The handler."""
        if self._active >= self._concurrent:
            raise Overloaded(
                f"{self._concurrent} files are being read, the most at a time "
                "(uploads.concurrent); try again later"
            )
        self._active += 1
        try:
            return await self._transcribe(request)
        finally:
            self._active -= 1

    async def _transcribe(self, request: web.Request) -> web.Response:
        context = request.app[CONTEXT]
        with tempfile.NamedTemporaryFile(prefix="funasr-agent-") as file:
            fields = await _receive(request, context, file)
            wanted = parse_fields(fields)
            read = await transcribe_file(
                context.service,
                Path(file.name),
                wanted.options,
                name=fields.get("file", ""),
                max_duration_s=context.config.uploads.max_duration_s,
            )
        body, content_type = render(read, wanted.response_format)
        if isinstance(body, str):
            return web.Response(text=body, content_type=content_type)
        return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))


async def _receive(request: web.Request, context: WebContext, file: IO[bytes]) -> dict[str, str]:
    """Write the part `file` to `file`; the other parts as texts."""
    if not request.content_type.startswith("multipart/"):
        raise BadRequest("send multipart/form-data with a part named file")
    limit_mb = context.config.uploads.max_mb
    if request.content_length is not None and request.content_length > (limit_mb + 1) * 2**20:
        raise TooLarge(f"the file is larger than {limit_mb} MB (uploads.max_mb)")
    fields: dict[str, str] = {}
    has_file = False
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise BadRequest("nested multipart is not taken")
            if part.name == "file":
                has_file = True
                fields["file"] = Path(part.filename or "").name
                await _save(part, file, limit_mb)
            elif part.name:
                fields[part.name] = await _text(part)
    except ValueError as error:
        raise BadRequest(f"the multipart body is malformed: {error}") from None
    if not has_file:
        raise BadRequest("there is no part named file")
    return fields


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
