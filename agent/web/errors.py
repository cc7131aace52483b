"""Errors as JSON with the right status, and the headers of every answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from agent.errors import (
    AgentError,
    AlreadyInstalled,
    AudioDeviceError,
    BundleError,
    BundleTooLarge,
    HistoryOff,
    MediaError,
    ModelError,
    ModelInUse,
    NoSpace,
    NotReady,
    Overloaded,
    ProtocolError,
    StoreBusy,
    UnknownModel,
    UnknownTranscript,
)
from agent.protocols.openai import BadRequest, error_body
from agent.web.assets import ASSETS, FOREVER

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MALFORMED_BODY = (ValueError, HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises while it reads a body that its client wrote wrongly."""
_INTERNAL = "the agent failed; its log says why"
_MEDIA_STATUS = {"not_audio": 415, "too_long": 413}
_NOT_READY_RETRY_S = 5
_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class TooLarge(AgentError):
    """An upload is larger than the box takes."""

    code = "too_large"


def status_of(error: AgentError) -> int:
    """HTTP status for an error."""
    if isinstance(error, TooLarge | BundleTooLarge):
        return 413
    if isinstance(error, MediaError):
        return _MEDIA_STATUS.get(error.code, 422)
    if isinstance(error, BadRequest | ProtocolError | BundleError):
        return 400
    if isinstance(error, UnknownModel | UnknownTranscript | HistoryOff):
        return 404
    if isinstance(error, StoreBusy | AlreadyInstalled | ModelInUse | AudioDeviceError):
        return 409
    if isinstance(error, NoSpace):
        return 507
    if isinstance(error, ModelError):
        return 422
    return 503 if isinstance(error, Overloaded | NotReady) else 500


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure becomes `{"error": {"code", "message"}}`, a refused model's with `level`."""
    try:
        return await handler(request)
    except AgentError as error:
        headers = {}
        if isinstance(error, Overloaded):
            headers["Retry-After"] = str(error.retry_after)
        elif isinstance(error, NotReady):
            headers["Retry-After"] = str(_NOT_READY_RETRY_S)
        body = error_body(error.code, error.message)
        if isinstance(error, ModelError) and error.level:
            body["error"]["level"] = error.level
        return web.json_response(body, status=status_of(error), headers=headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = error.reason.lower().replace(" ", "_")
        kept = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
        body = error_body(code, error.text or error.reason)
        return web.json_response(body, status=error.status, headers=kept)
    except Exception:  # noqa: BLE001 - a bug in one request must not show its inside to a client
        _log.exception("%s %s failed", request.method, request.path)
        body = error_body("internal", _INTERNAL)
        return web.json_response(body, status=500)


def error_event(request: web.Request, error: Exception) -> dict[str, Any]:
    """A failure after the status of an answer has been sent, as its last event."""
    if isinstance(error, AgentError):
        return error_body(error.code, error.message)
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return error_body("internal", _INTERNAL)


async def add_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: headers of every answer."""
    if request.path.startswith(request.app[ASSETS].prefix + "/") and response.status < 400:
        kept = FOREVER
    else:
        kept = "no-cache" if request.path.startswith("/static/") else "no-store"
    response.headers.setdefault("Cache-Control", kept)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
