"""The REST side of the model store: what is installed, uploads of bundles, switching roles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO, cast

from aiohttp import BodyPartReader, web

from agent.errors import NotReady, UnknownModel
from agent.protocols.openai import BadRequest
from agent.store.listing import model_rows
from agent.store.loader import LoadedRole
from agent.store.roles import ROLES, Role
from agent.web.body_pipe import BodyPipe
from agent.web.connection import CONNECTIONS
from agent.web.context import CONTEXT, WebContext
from agent.web.errors import MALFORMED_BODY, TooLarge
from agent.web.json_body import read_object

_PIECE = 1 << 18
_TOLD_BYTES = 8 << 20
"""An event tells the progress of an upload each time that this much more has come."""


async def models(request: web.Request) -> web.Response:
    """Every model of the box with its state, and what serves each role."""
    context = request.app[CONTEXT]
    loaded = context.keeper.loaded
    roles = loaded.roles if loaded else {}
    serving = {str(entry.ref): str(role) for role, entry in roles.items() if entry.found}
    rows = await asyncio.to_thread(model_rows, context.keeper.store, serving)
    return _json({"models": rows, "roles": context.status.models()})


async def install(request: web.Request) -> web.Response:
    """Install the bundle that is the body, or the part `file` of a form."""
    context = request.app[CONTEXT]
    limit = context.config.models.max_bundle_mb << 20
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"the bundle is larger than {limit >> 20} MB (models.max_bundle_mb)")
    pipe = BodyPipe()
    told = _Progress(context, request.content_length)
    # Not buffered: what has come is looked at before more comes.
    stream = cast(BinaryIO, pipe)
    installing = asyncio.create_task(context.keeper.install(stream, told))
    installing.add_done_callback(lambda _: pipe.stop_reading())
    upload = _Upload(asyncio.create_task(_feed(request, pipe)))
    request.app[CONNECTIONS].add(upload)
    try:
        # A bundle may be refused long before its last byte has come.
        await asyncio.wait({installing, upload.feeding}, return_when=asyncio.FIRST_COMPLETED)
        if not installing.done():
            upload.require_whole()
        installed = await installing
    finally:
        request.app[CONNECTIONS].discard(upload)
        upload.feeding.cancel()
        pipe.break_off("the upload ended before the bundle was whole")
        await asyncio.gather(installing, upload.feeding, return_exceptions=True)
    return _json(
        {
            "installed": [
                {
                    "id": m.id,
                    "ref": f"{m.id}@{m.sha8}",
                    "task": m.task,
                    "already": m.already,
                }
                for m in installed
            ]
        },
        status=201,
    )


async def switch(request: web.Request) -> web.Response:
    """Serve a role with another model: `{"id": "paraformer-zh"}`."""
    role = _role(request)
    body = await read_object(request)
    name = body.get("id")
    if not isinstance(name, str) or not name:
        raise BadRequest('send {"id": "..."}, the id of an installed model')
    return _json(_switched(await request.app[CONTEXT].keeper.switch(role, name)))


async def rollback(request: web.Request) -> web.Response:
    """Serve a role with the model that served it before."""
    return _json(_switched(await request.app[CONTEXT].keeper.rollback(_role(request))))


async def remove(request: web.Request) -> web.Response:
    """Remove an installed model that nothing uses."""
    ref = await request.app[CONTEXT].keeper.remove(request.match_info["role"])
    return _json({"removed": str(ref)})


async def verify(request: web.Request) -> web.Response:
    """Look at one model (`{"id": ...}`) or at all, on every level and at their speed."""
    body = await read_object(request)
    name = body.get("id", "")
    if not isinstance(name, str):
        raise BadRequest("id must be text")
    checkups = await request.app[CONTEXT].keeper.verify(name)
    return _json({"models": [{**asdict(c), "problem": c.problem} for c in checkups]})


def _switched(loaded: LoadedRole) -> dict[str, Any]:
    return {
        "role": loaded.role,
        "id": loaded.id,
        "ref": str(loaded.ref),
        "variant": loaded.variant.name if loaded.variant else None,
        "provider": loaded.provider or None,
        "load_time_s": round(loaded.load_time_s, 3),
    }


class _Progress:
    """Tells the page how far an upload is. Called in the thread that installs."""

    def __init__(self, context: WebContext, total: int | None) -> None:
        self._hub = context.hub
        self._total = total
        self._told = 0
        self._loop = asyncio.get_running_loop()

    def __call__(self, received: int) -> None:
        if received >= self._told + _TOLD_BYTES:
            self._told = received
            event = {"received": received, "total": self._total}
            self._loop.call_soon_threadsafe(self._hub.publish, "install_progress", event)


class _Upload:
    """A body that is on its way; the application stops it like an open socket."""

    def __init__(self, feeding: asyncio.Task[None]) -> None:
        self.feeding = feeding

    async def stop(self) -> None:
        """Wait for no more of it."""
        self.feeding.cancel()

    def require_whole(self) -> None:
        """Raises what kept the body from coming whole."""
        if self.feeding.cancelled():
            raise NotReady("the agent is stopping; send the bundle again when it has started")
        self.feeding.result()


async def _feed(request: web.Request, pipe: BodyPipe) -> None:
    """Hand the body to the installer as it comes, in step with it."""
    idle_s = request.app[CONTEXT].config.stream.idle_s
    pieces = _pieces(request)
    try:
        while piece := await asyncio.wait_for(_next(pieces), idle_s):
            if not await pipe.feed(piece):
                return
    except asyncio.TimeoutError:
        reason = f"nothing came for {idle_s:g} s (stream.idle_s); send the bundle again"
        raise web.HTTPRequestTimeout(text=reason) from None
    except MALFORMED_BODY as error:
        raise BadRequest(f"the body is malformed: {error}") from None
    except OSError as error:
        raise BadRequest(f"the client went away: {error}") from None
    pipe.end()


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The bundle in a body, none of them empty. Raises BadRequest, and what aiohttp raises."""
    if not request.content_type.startswith("multipart/"):
        async for piece in request.content.iter_chunked(_PIECE):
            yield piece
        return
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if isinstance(part, BodyPartReader) and part.name == "file":
            while piece := await part.read_chunk(_PIECE):
                yield piece
            return
    raise BadRequest("there is no part named file")


def _role(request: web.Request) -> Role:
    role = request.match_info["role"]
    if role not in ROLES:
        raise UnknownModel(f"{role!r} is not a role; roles are {', '.join(ROLES)}")
    return role


def _json(body: object, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, dumps=partial(json.dumps, ensure_ascii=False))
