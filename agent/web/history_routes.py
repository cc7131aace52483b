"""The history over REST: search, export as JSON, text and subtitles, deletion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from aiohttp import web

from agent.errors import HistoryOff, UnknownTranscript
from agent.pipeline.history import History
from agent.pipeline.history_store import KeptFinal, Wanted
from agent.protocols.events import command_fields
from agent.protocols.openai import BadRequest
from agent.subtitles import FORMATS, to_srt, to_vtt
from agent.types import Transcript
from agent.web.context import CONTEXT

MOST = 10_000
"""Finals in one answer."""
_MAX_WORDS = 200
_MAX_ID = 2**53
_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
_READ = {"since", "until", "q", "limit", "before", "session", "source", "command", "format"}
_DELETE = {"id", "session", "until", "all"}


async def search(request: web.Request) -> web.Response:
    """Finals: the newest first as JSON, in the order of time as text and subtitles."""
    query = _query(request, _READ)
    shape = query.get("format", "json")
    if shape not in FORMATS:
        raise BadRequest(f"format is {shape!r}; it is one of {', '.join(FORMATS)}")
    wanted = Wanted(
        since=_time(query, "since", 0.0),
        until=_time(query, "until", math.inf),
        words=_words(query),
        session=query.get("session", ""),
        source=query.get("source", ""),
        command=query.get("command", ""),
        before=_number(query, "before"),
        limit=_number(query, "limit", MOST) or (100 if shape == "json" else MOST),
    )
    found = await _history(request).search(replace(wanted, limit=wanted.limit + 1))
    more, found = len(found) > wanted.limit, found[: wanted.limit]
    if shape == "json":
        rows = [_row(kept) for kept in found]
        return _json({"transcripts": rows, "next": rows[-1]["id"] if more else None})
    text = _export(shape, found[::-1])
    name = f"transcripts-{datetime.now():%Y%m%d-%H%M%S}.{FORMATS[shape]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if more:
        headers["X-Truncated"] = "true"
    return web.Response(text=text, content_type=_TYPES[shape], charset="utf-8", headers=headers)


async def delete(request: web.Request) -> web.Response:
    """Delete one final (`id`), one `session`, what is older than `until`, or `all=true`."""
    query = _query(request, _DELETE)
    if len(query) != 1:
        raise BadRequest("say what to delete: one of id=, session=, until=, or all=true")
    everything = "all" in query
    if everything and query["all"] != "true":
        raise BadRequest("to delete the whole history send all=true")
    wanted = Wanted(
        id=_number(query, "id"),
        session=query.get("session", ""),
        until=_time(query, "until", math.inf),
    )
    if not everything and wanted == Wanted():
        raise BadRequest(f"{next(iter(query))} is empty")
    count = await _history(request).delete(wanted, everything=everything)
    if not count and ("id" in query or "session" in query):
        raise UnknownTranscript("the history has no such entry")
    request.app[CONTEXT].hub.forget_words(wanted.session)
    request.app[CONTEXT].hub.publish("history", {"deleted": count})
    return _json({"deleted": count})


def _history(request: web.Request) -> History:
    history = request.app[CONTEXT].history
    if history is None:
        raise HistoryOff("this agent keeps no history")
    return history


def _query(request: web.Request, known: set[str]) -> Mapping[str, str]:
    unknown = sorted(set(request.query) - known)
    if unknown:
        raise BadRequest(f"{unknown[0]} is not known here; known are {', '.join(sorted(known))}")
    # A lone surrogate is no text.
    return {
        name: value.encode("utf-8", "replace").decode().replace("\0", " ")
        for name, value in request.query.items()
    }


def _words(query: Mapping[str, str]) -> str:
    words = query.get("q", "")
    if len(words) > _MAX_WORDS:
        raise BadRequest(f"q is longer than {_MAX_WORDS} characters")
    return words


def _number(query: Mapping[str, str], name: str, most: int = _MAX_ID) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and 1 <= int(text) <= most):
        raise BadRequest(f"{name} is {text[:40]!r}; it is a number from 1 to {most}")
    return int(text)


def _time(query: Mapping[str, str], name: str, default: float) -> float:
    """UNIX seconds of a moment: UNIX seconds, or ISO 8601, UTC where it has no zone."""
    text = query.get(name)
    if text is None:
        return default
    try:
        moment = float(text)
    except ValueError:
        try:
            read = datetime.fromisoformat(text.replace("Z", "+00:00"))
            moment = (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, OverflowError):
            moment = math.nan
    if not math.isfinite(moment):
        raise BadRequest(
            f"{name} is {text[:40]!r}; it is UNIX seconds or a time such as 2026-03-01T08:00:00Z"
        )
    return moment


def _row(kept: KeptFinal) -> dict[str, Any]:
    final = kept.final
    fields: dict[str, Any] = {
        "id": kept.id,
        "session": asdict(kept.session),
        "segment_id": final.segment_id,
        "time": round(kept.time, 3),
        "start_ms": final.start_ms,
        "end_ms": final.end_ms,
        "text": final.text,
    }
    for name in ("language", "emotion", "event", "spoken", "tokens", "timestamps"):
        if value := getattr(final, name):
            fields[name] = value
    if final.command is not None:
        fields["command"] = command_fields(final.command)
    return fields


def _export(shape: str, found: Sequence[KeptFinal]) -> str:
    if shape == "text":
        return "".join(f"{kept.final.text}\n" for kept in found)
    begins = min((kept.session.opened for kept in found), default=0.0)
    finals = [_moved(k.final, round((k.session.opened - begins) * 1000)) for k in found]
    finals.sort(key=lambda final: final.start_ms)
    return to_srt(finals) if shape == "srt" else to_vtt(finals)


def _moved(final: Transcript, ms: int) -> Transcript:
    """The same final later: several sessions share the clock of the first."""
    stamps = tuple((start + ms, end + ms) for start, end in final.timestamps)
    return replace(final, start_ms=final.start_ms + ms, end_ms=final.end_ms + ms, timestamps=stamps)


def _json(body: object) -> web.Response:
    return web.json_response(body, dumps=partial(json.dumps, ensure_ascii=False))
