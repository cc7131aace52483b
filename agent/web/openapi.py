"""`/openapi.json`: the REST side as the router has it, with what `openapi_details` adds."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from aiohttp import web

from agent import __version__
from agent.web.openapi_details import DETAILS, SCHEMAS, error_answers

SOCKETS = ("/ws", "/api/v1/stream", "/api/v1/events", "/v1/realtime")
"""WebSockets, which OpenAPI can't describe; docs/openai.md and the contract do."""
PAGES = ("/", "/docs", "/static", "/openapi.json", "/sign-in", "/sign-in/{name}")
"""For browsers."""
_PARAMETER = re.compile(r"{([a-z_]+)[^}]*}")
_ABOUT = (
    "Speech to text on this box. Beyond loopback a token is needed: as `Authorization: Bearer`. "
    "Live audio goes over WebSockets, which are not part of this document: "
    + ", ".join(SOCKETS)
    + '. Every error is `{"error": {"code", "message"}}`.'
)


async def openapi(request: web.Request) -> web.Response:
    """The REST side of this box in OpenAPI 3.1."""
    body = document(request.app)
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))


def document(app: web.Application) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in rest_routes(app):
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, handler)
    return {
        "openapi": "3.1.0",
        "info": {"title": "funasr-agent", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def rest_routes(app: web.Application) -> Iterator[tuple[str, str, Any]]:
    """Method, path and handler of every route that is neither a socket nor for browsers."""
    for route in app.router.routes():
        if route.resource is None or route.method in ("HEAD", "*"):
            continue
        path = route.resource.canonical
        if path not in SOCKETS and path not in PAGES and not path.startswith("/static/"):
            yield route.method, _PARAMETER.sub(r"{\1}", path), route.handler


def _operation(method: str, path: str, handler: Any) -> dict[str, Any]:
    details = DETAILS.get((method, path), {})
    found = {
        "summary": (inspect.getdoc(handler) or path).split("\n")[0],
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}".rstrip("_"),
        **details,
    }
    named = {p["name"] for p in found.get("parameters", ())}
    missing = [_path_parameter(p) for p in _PARAMETER.findall(path) if p not in named]
    if missing:
        found["parameters"] = [*missing, *found.get("parameters", ())]
    found["responses"] = {"200": {"description": "fine"}, **found.get("responses", {})}
    if "201" in found["responses"]:
        del found["responses"]["200"]
    found["responses"] |= error_answers(found["responses"])
    return found


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
