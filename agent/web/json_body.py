"""Small JSON bodies of requests."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from agent.protocols.openai import BadRequest
from agent.web.errors import MALFORMED_BODY

_MAX_BYTES = 4096


async def read_object(request: web.Request) -> dict[str, Any]:
    """The object that is the body, empty for no body. Raises BadRequest."""
    data = b""
    try:
        async for piece in request.content.iter_chunked(_MAX_BYTES):
            data += piece
            if len(data) > _MAX_BYTES:
                raise BadRequest("the body is too long")
    except MALFORMED_BODY as error:
        raise BadRequest(f"the body is malformed: {error}") from None
    if not data:
        return {}
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body
