"""The box's own microphone over REST: how it is, mute and gain."""

from __future__ import annotations

import json
import math
from functools import partial

from aiohttp import web

from agent.errors import AudioDeviceError
from agent.pipeline.microphone import Microphone
from agent.pipeline.microphone_controls import MOST_GAIN_DB
from agent.protocols.openai import BadRequest
from agent.web.context import CONTEXT
from agent.web.json_body import read_object

_RIGHT = 'send {"muted": true or false, "gain_db": number}, both or one of them'


async def show(request: web.Request) -> web.Response:
    """Its state, device, level and counters."""
    return _json(_microphone(request).status())


async def control(request: web.Request) -> web.Response:
    """Set `muted` and `gain_db`, both or one of them; the state that follows."""
    microphone = _microphone(request)
    fields = await read_object(request)
    muted, gain_db = fields.get("muted"), fields.get("gain_db")
    if not fields or not set(fields) <= {"muted", "gain_db"}:
        raise BadRequest(_RIGHT)
    if muted is not None and not isinstance(muted, bool):
        raise BadRequest(f"muted is {muted!r}; {_RIGHT}")
    if gain_db is not None and not _is_gain(gain_db):
        raise BadRequest(
            f"gain_db is {gain_db!r}; it is a number from {-MOST_GAIN_DB:g} to {MOST_GAIN_DB:g}"
        )
    if not microphone.settings.enabled:
        raise AudioDeviceError(
            "the box does not listen itself; set microphone.enabled: true and start it again"
        )
    await microphone.control(muted, gain_db)
    return _json(microphone.status())


def _microphone(request: web.Request) -> Microphone:
    microphone = request.app[CONTEXT].microphone
    if microphone is None:
        raise AudioDeviceError("this agent has no microphone")
    return microphone


def _is_gain(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) <= MOST_GAIN_DB


def _json(body: object) -> web.Response:
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))
