"""The routes: each handler reads the request and hands over."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from aiohttp import web

from agent.errors import UnknownModel
from agent.protocols.openai import model_list
from agent.web import history_routes, microphone_routes, model_routes
from agent.web.assets import ASSETS, STATIC, Assets
from agent.web.context import CONTEXT
from agent.web.events_socket import EventsConnection
from agent.web.funasr_socket import FunasrConnection
from agent.web.openapi import openapi
from agent.web.realtime_socket import RealtimeConnection
from agent.web.sign_in import sign_in_routes
from agent.web.stream_socket import OWNERS, StreamConnection
from agent.web.uploads import DECODERS, transcribe

_ALWAYS_ASK = {"Cache-Control": "no-cache"}
"""The browser keeps files but asks whether they changed, so that an update shows at once."""


def add_routes(app: web.Application) -> None:
    """Add every route of the application, and what its handlers share."""
    app[DECODERS] = asyncio.Semaphore(app[CONTEXT].config.uploads.concurrent)
    app[OWNERS] = {}
    app[ASSETS] = Assets()
    app.add_routes(
        [
            web.get("/", root),
            web.get("/ws", funasr),
            web.get("/api/v1/stream", stream),
            web.get("/api/v1/events", events),
            web.get("/health", health),
            web.get("/livez", live),
            web.get("/readyz", ready),
            web.get("/metrics", metrics),
            web.get("/api/v1/status", status),
            web.get("/api/v1/trend", trend),
            web.get("/api/v1/models", model_routes.models),
            web.post("/api/v1/models", model_routes.install),
            web.post("/api/v1/models/{role}", model_routes.switch),
            web.delete("/api/v1/models/{role}", model_routes.remove),
            web.post("/api/v1/models/{role}/rollback", model_routes.rollback),
            web.post("/api/v1/check", model_routes.verify),
            web.get("/api/v1/microphone", microphone_routes.show),
            web.post("/api/v1/microphone", microphone_routes.control),
            web.get("/api/v1/transcripts", history_routes.search),
            web.delete("/api/v1/transcripts", history_routes.delete),
            web.get("/v1/models", openai_models),
            web.get("/v1/models/{model}", openai_model),
            web.post("/v1/audio/transcriptions", transcribe),
            web.get("/v1/realtime", realtime),
            web.get("/openapi.json", openapi),
            web.get("/docs", docs),
            web.static(app[ASSETS].prefix, STATIC),
            web.static("/static", STATIC),
            *sign_in_routes(),
        ]
    )


async def root(request: web.Request) -> web.StreamResponse:
    """The page on a plain GET; FunASR's protocol on a WebSocket upgrade."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await funasr(request)
    assets = request.app[ASSETS]
    headers = {**_ALWAYS_ASK, "ETag": assets.etag}
    if request.headers.get("If-None-Match") == assets.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(text=assets.page, content_type="text/html", headers=headers)


async def docs(request: web.Request) -> web.StreamResponse:
    """The API's documentation."""
    return web.FileResponse(STATIC / "docs.html", headers=_ALWAYS_ASK)


async def funasr(request: web.Request) -> web.StreamResponse:
    """FunASR's WebSocket protocol."""
    return await FunasrConnection(request, request.app[CONTEXT]).serve()


async def stream(request: web.Request) -> web.StreamResponse:
    """Resumable live audio."""
    return await StreamConnection(request, request.app[CONTEXT]).serve()


async def events(request: web.Request) -> web.StreamResponse:
    """JSON events of the box."""
    return await EventsConnection(request, request.app[CONTEXT]).serve()


async def realtime(request: web.Request) -> web.StreamResponse:
    """OpenAI's realtime transcription."""
    return await RealtimeConnection(request, request.app[CONTEXT]).serve()


async def health(request: web.Request) -> web.Response:
    """All checks; 200 while the box can transcribe."""
    source = request.app[CONTEXT].status
    return _json(source.health(), status=200 if source.can_transcribe() else 503)


async def live(request: web.Request) -> web.Response:
    """200 while the process works."""
    return _verdict(request.app[CONTEXT].status.live(), "live")


async def ready(request: web.Request) -> web.Response:
    """200 when a canary was decoded recently."""
    return _verdict(request.app[CONTEXT].status.ready(), "ready")


async def metrics(request: web.Request) -> web.Response:
    """Prometheus text, or OpenMetrics when asked for."""
    accept = request.headers.get("Accept", "")
    body, content_type = request.app[CONTEXT].status.metrics(accept)
    return web.Response(body=body, headers={"Content-Type": content_type})


async def status(request: web.Request) -> web.Response:
    """Version, models in use, sessions, hardware."""
    return _json(request.app[CONTEXT].status.status())


async def trend(request: web.Request) -> web.Response:
    """Load and latency of the last hour."""
    return _json(request.app[CONTEXT].status.trend.to_json())


async def openai_models(request: web.Request) -> web.Response:
    """Recognisers in OpenAI's shape."""
    return _json(model_list(_recognisers(request), int(request.app[CONTEXT].started)))


async def openai_model(request: web.Request) -> web.Response:
    """One of them."""
    name = request.match_info["model"]
    listed = model_list(_recognisers(request), int(request.app[CONTEXT].started))["data"]
    entry = next((entry for entry in listed if entry["id"] == name), None)
    if entry is None:
        raise UnknownModel(f"{name!r} is not a model in use here; GET /v1/models lists them")
    return _json(entry)


def _recognisers(request: web.Request) -> list[str]:
    """Ids of the recognisers in use, the one that reads files first."""
    rows = request.app[CONTEXT].status.models()
    found = {row["role"]: row["id"] for row in rows if row["id"]}
    return [found[role] for role in ("asr_offline", "asr_online") if role in found]


def _json(body: object, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, dumps=partial(json.dumps, ensure_ascii=False))


def _verdict(good: bool, word: str) -> web.Response:
    text = word if good else f"not {word}; see /health"
    return web.Response(text=text + "\n", status=200 if good else 503)
