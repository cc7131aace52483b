"""A form with a file, received piece by piece: bounded in size, in fields and in time."""

from __future__ import annotations

import asyncio
import errno
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

from aiohttp import BodyPartReader, MultipartReader, web

from agent.errors import NoSpace
from agent.protocols.openai import BadRequest
from agent.web.context import CONTEXT
from agent.web.errors import MALFORMED_BODY, TooLarge

T = TypeVar("T")

_PIECE = 1 << 18
_MAX_FIELD = 1 << 16
_MAX_FIELDS = 64
_MAX_NAME = 200
FIRST_S = 30.0
"""Time that a body may take however short it is, and longest silence in it."""
SLOWEST_BYTES_S = 4096
"""A slower body holds a place that others could use."""


@dataclass
class Form:
    """What a form held beside its file."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    """Name -> all its values."""
    name: str | None = None
    """The file's own name, without folders; None until the file came."""


def new_file(folder: Path) -> IO[bytes]:
    """A file without a name in `folder`: nothing of it is left whatever happens to the process.

    Where that folder can't be written, the system's own for such files is used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError:
        return tempfile.TemporaryFile()


async def receive_form(request: web.Request, file: IO[bytes]) -> Form:
    """Write the part `file` to `file`; the rest of the form.

    Raises BadRequest, TooLarge, NoSpace, and HTTPRequestTimeout for a sender that is too slow.
    """
    if not request.content_type.startswith("multipart/"):
        raise BadRequest("send multipart/form-data with a part named file")
    limit_mb = request.app[CONTEXT].config.uploads.max_mb
    if request.content_length is not None and request.content_length > (limit_mb + 1) * 2**20:
        raise TooLarge(f"the file is larger than {limit_mb} MB (uploads.max_mb)")
    form, pace, count = Form(), Pace(), 0
    try:
        reader = await request.multipart()
        while (part := await pace.next(_next_part(reader))) is not None:
            count += 1
            if count > _MAX_FIELDS:
                raise BadRequest(f"the form has more than {_MAX_FIELDS} parts")
            if not isinstance(part, BodyPartReader):
                raise BadRequest("nested multipart is not taken")
            if part.name == "file":
                if form.name is not None:
                    raise BadRequest("there are two parts named file; send one file a request")
                form.name = Path(part.filename or "").name[:_MAX_NAME]
                await _save(part, file, limit_mb, pace)
            elif part.name:
                form.fields.setdefault(part.name, []).append(await _text(part, pace))
    except MALFORMED_BODY as error:
        raise BadRequest(f"the multipart body is malformed: {error}") from None
    except LookupError as error:  # an encoding that nobody knows
        raise BadRequest(f"the multipart body is malformed: {error}") from None
    if form.name is None:
        raise BadRequest("there is no part named file")
    return form


class Pace:
    """Ends a body that comes too slowly."""

    def __init__(
        self, silent_s: float = FIRST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent_s = silent_s
        self._clock = clock
        self._began = clock()
        self._bytes = 0

    async def next(self, reading: Awaitable[T]) -> T:
        """The next piece. Raises HTTPRequestTimeout."""
        task = asyncio.ensure_future(reading)
        try:
            await asyncio.wait({task}, timeout=self._silent_s)
            if not task.done():
                reason = f"nothing came for {self._silent_s:g} s; send it again"
                raise web.HTTPRequestTimeout(text=reason)
            return task.result()
        finally:
            task.cancel()

    def count(self, size: int) -> None:
        """`size` bytes have come. Raises HTTPRequestTimeout."""
        self._bytes += size
        allowed_s = FIRST_S + self._bytes / SLOWEST_BYTES_S
        if self._clock() - self._began > allowed_s:
            raise web.HTTPRequestTimeout(
                text=f"the body comes at less than {SLOWEST_BYTES_S} bytes a second; send it again"
            )


async def _next_part(reader: MultipartReader) -> MultipartReader | BodyPartReader | None:
    return await reader.next()


async def _save(part: BodyPartReader, file: IO[bytes], limit_mb: int, pace: Pace) -> None:
    size = 0
    try:
        while piece := await pace.next(part.read_chunk(_PIECE)):
            size += len(piece)
            pace.count(len(piece))
            if size > limit_mb * 2**20:
                raise TooLarge(f"the file is larger than {limit_mb} MB (uploads.max_mb)")
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace("the disk has no room for the file; free some and send it again") from None


async def _text(part: BodyPartReader, pace: Pace) -> str:
    data = b""
    while piece := await pace.next(part.read_chunk(_MAX_FIELD)):
        data += piece
        pace.count(len(piece))
        if len(data) > _MAX_FIELD:
            raise BadRequest(f"the field {part.name} is longer than {_MAX_FIELD} bytes")
    return data.decode("utf-8", errors="replace")
