"""The box's own microphone over REST: how it is, on and off, mute and gain."""

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

_NAMES = {"enabled", "muted", "gain_db"}
_RIGHT = (
    'send {"enabled": true or false, "muted": true or false, "gain_db": number}, or some of them'
)


async def show(request: web.Request) -> web.Response:
    """Its state, device, level and counters."""
    return _json(_microphone(request).status())


async def control(request: web.Request) -> web.Response:
    """Set `enabled`, `muted` and `gain_db`, or some of them; the state that follows."""
    microphone = _microphone(request)
    fields = await read_object(request)
    enabled, muted, gain_db = (fields.get(name) for name in ("enabled", "muted", "gain_db"))
    if not fields or not set(fields) <= _NAMES:
        raise BadRequest(_RIGHT)
    for name, value in (("enabled", enabled), ("muted", muted)):
        if value is not None and not isinstance(value, bool):
            raise BadRequest(f"{name} is {value!r}; {_RIGHT}")
    if gain_db is not None and not _is_gain(gain_db):
        raise BadRequest(
            f"gain_db is {gain_db!r}; it is a number from {-MOST_GAIN_DB:g} to {MOST_GAIN_DB:g}"
        )
    if enabled is not None and not microphone.settings.switch:
        raise AudioDeviceError(
            "only the box's configuration turns its microphone on or off (microphone.switch: false)"
        )
    if enabled is None and not microphone.enabled:
        how = 'send {"enabled": true}' if microphone.settings.switch else "set microphone.enabled"
        raise AudioDeviceError(f"the box does not listen by itself; {how} first")
    await microphone.control(muted, gain_db, enabled)
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
