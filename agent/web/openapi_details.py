"""What `/openapi.json` says of each route beside its first line of documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.pipeline.microphone_controls import MOST_GAIN_DB
from agent.protocols.openai import GRANULARITIES, RESPONSE_FORMATS
from agent.store.roles import ROLES
from agent.subtitles import FORMATS
from agent.web.history_routes import MOST

Json = dict[str, Any]
_JSON = "application/json"
_TEXT_FORMATS = ("text/plain", "text/vtt", "text/event-stream")


def _string(about: str = "", **more: Any) -> Json:
    return {"type": "string", **({"description": about} if about else {}), **more}


def _object(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _answer(about: str, schema: Json | None = None, *kinds: str) -> Json:
    shape = {"schema": schema or {"type": "object"}}
    return {"description": about, "content": dict.fromkeys(kinds or (_JSON,), shape)}


def _body(schema: Json, kind: str = _JSON, *, required: bool = True) -> Json:
    return {"required": required, "content": {kind: {"schema": schema}}}


def _query(name: str, about: str, **schema: Any) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": about,
        "schema": {"type": "string", **schema},
    }


_SUBTITLE_KINDS = ("text/plain", "application/x-subrip", "text/vtt")
_TOKEN = _object({"token": _string()})


def error_answers(said: Mapping[str, Any]) -> Json:
    """The answer of every error that an operation does not describe itself."""
    answers = {"4XX": "a wrong request", "5XX": "the agent can't answer; `Retry-After` says when"}
    return {
        code: _answer(about, _ref("Error")) for code, about in answers.items() if code not in said
    }


_NUMBER = {"type": "number"}
_SEGMENT = _object(
    {
        "id": {"type": "integer"},
        "start": {**_NUMBER, "description": "seconds"},
        "end": {**_NUMBER, "description": "seconds"},
        "text": _string(),
    }
)
_WORD = _object({"word": _string(), "start": _NUMBER, "end": _NUMBER})
_FORM = _object(
    {"file": _string("wav, flac, mp3, ogg or opus; m4a, mp4, webm with PyAV", format="binary")},
    {
        "model": _string("any name; the recogniser in use answers"),
        "language": _string("zh, en, ...; nothing or auto: found out"),
        "prompt": _string("phrases to listen for, where the recogniser can, parted by commas"),
        "hotwords": _string('phrases with weights, {"funasr": 20} (an addition)'),
        "itn": {
            "type": "boolean",
            "default": True,
            "description": "numbers as digits (an addition)",
        },
        "punctuation": {
            "type": "boolean",
            "default": True,
            "description": "marks, where a model puts them (an addition)",
        },
        "response_format": _string(enum=list(RESPONSE_FORMATS), default="json"),
        "stream": {
            "type": "boolean",
            "default": False,
            "description": "answer with server-sent events while the file is read",
        },
        "progress": {
            "type": "boolean",
            "default": False,
            "description": "streamed answers tell how far they are (an addition)",
        },
        "timestamp_granularities[]": _list(_string(enum=list(GRANULARITIES))),
        "temperature": {**_NUMBER, "description": "taken and passed over"},
    },
)
_SAID = _object(
    {"text": _string("a remark or reason in English")},
    {"code": _string("stable; names the text"), "values": {"type": "object"}},
)
_COMMAND = {
    "name": _string("of one of the `commands` in config.yaml"),
    "slots": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
}
_TRANSCRIPTION = _object(
    {"text": _string()},
    {
        "task": _string(),
        "language": _string(),
        "duration": _NUMBER,
        "segments": _list(_SEGMENT),
        "words": _list(_WORD),
        "commands": _list(_object({**_COMMAND, "start": _NUMBER, "end": _NUMBER})),
        "warning": _string("what of the file could not be read"),
        "remarks": _list(_string("what of the request the models can't honour")),
        "said": _list(_SAID),
    },
)
_MODEL = _object(
    {
        "id": _string(),
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _string(),
    }
)
_HEALTH = _object(
    {
        "status": _string(enum=["ok", "degraded", "starting", "failing"]),
        "checks": _list(
            _object({"name": _string(), "status": _string(), "reason": _string()}, {"said": _SAID})
        ),
    }
)
_TRANSCRIPTS = _object(
    {
        "transcripts": _list(
            _object(
                {
                    "id": {"type": "integer"},
                    "session": _object({"id": _string(), "source": _string()}),
                    "segment_id": {"type": "integer"},
                    "time": {**_NUMBER, "description": "seconds since 1970"},
                    "start_ms": {"type": "integer"},
                    "end_ms": {"type": "integer"},
                    "text": _string(),
                },
                {"command": _object(_COMMAND)},
            )
        ),
        "next": {"type": ["integer", "null"]},
    }
)
SCHEMAS: Json = {
    "Error": _object({"error": _object({"code": _string(), "message": _string()})}),
    "Transcription": _TRANSCRIPTION,
    "Model": _MODEL,
    "Health": _HEALTH,
    "Transcripts": _TRANSCRIPTS,
}
_ROLE = {"name": "role", "in": "path", "required": True, "schema": _string(enum=list(ROLES))}
_ID = _object({"id": _string("id of an installed model")})
_TEXT = _string()
_VERDICT = _answer("so it is", _TEXT, "text/plain")

DETAILS: dict[tuple[str, str], Json] = {
    ("GET", "/health"): {
        "responses": {
            "200": _answer("it can transcribe", _ref("Health")),
            "503": _answer("it can't", _ref("Health")),
        }
    },
    ("GET", "/livez"): {"responses": {"200": _VERDICT, "503": _VERDICT}},
    ("GET", "/readyz"): {"responses": {"200": _VERDICT, "503": _VERDICT}},
    ("GET", "/metrics"): {"responses": {"200": _answer("metrics", _TEXT, "text/plain")}},
    ("GET", "/api/v1/status"): {"responses": {"200": _answer("how the box is")}},
    ("GET", "/api/v1/models"): {
        "responses": {
            "200": _answer(
                "models and roles",
                _object(
                    {
                        "models": _list({"type": "object"}),
                        "roles": _list({"type": "object"}),
                    }
                ),
            )
        }
    },
    ("POST", "/api/v1/models"): {
        "requestBody": _body(_string(format="binary"), "application/octet-stream"),
        "responses": {"201": _answer("installed")},
    },
    ("POST", "/api/v1/models/{role}"): {
        "parameters": [_ROLE],
        "requestBody": _body(_ID),
        "responses": {"200": _answer("it serves")},
    },
    ("DELETE", "/api/v1/models/{role}"): {
        "summary": "Remove a model that nothing uses; `role` stands for its id here.",
        "responses": {"200": _answer("removed", _object({"removed": _string()}))},
    },
    ("POST", "/api/v1/models/{role}/rollback"): {
        "parameters": [_ROLE],
        "responses": {"200": _answer("it serves again")},
    },
    ("POST", "/api/v1/check"): {
        "requestBody": _body(_object({}, {"id": _string()}), required=False),
        "responses": {"200": _answer("what was found")},
    },
    ("GET", "/api/v1/transcripts"): {
        "parameters": [
            _query("since", "from this time on, seconds since 1970 or ISO 8601"),
            _query("until", "before this time"),
            _query("q", "words that the text holds"),
            _query("limit", "finals at most", type="integer", minimum=1, maximum=MOST),
            _query("before", "with an id below this: the next page", type="integer", minimum=1),
            _query("session", "of this session"),
            _query("source", "of this kind of source"),
            _query("command", "that are the command of this name"),
            _query("format", "the answer's", enum=list(FORMATS)),
        ],
        "responses": {
            "200": {
                "description": "finals",
                "content": {
                    _JSON: {"schema": _ref("Transcripts")},
                    **{kind: {"schema": _TEXT} for kind in _SUBTITLE_KINDS},
                },
            }
        },
    },
    ("DELETE", "/api/v1/transcripts"): {
        "parameters": [
            _query("id", "this final", type="integer", minimum=1),
            _query("session", "all of this session"),
            _query("until", "what is older than this"),
            _query("all", "the whole history", enum=["true"]),
        ],
        "responses": {"200": _answer("how many went", _object({"deleted": {"type": "integer"}}))},
    },
    ("GET", "/api/v1/trend"): {"responses": {"200": _answer("load and latency of an hour")}},
    ("GET", "/api/v1/token"): {"responses": {"200": _answer("the token", _TOKEN)}},
    ("POST", "/api/v1/token"): {"responses": {"200": _answer("the new token", _TOKEN)}},
    ("GET", "/api/v1/microphone"): {"responses": {"200": _answer("how it is")}},
    ("POST", "/api/v1/microphone"): {
        "requestBody": _body(
            _object(
                {},
                {
                    "enabled": {"type": "boolean"},
                    "muted": {"type": "boolean"},
                    "gain_db": {
                        "type": "number",
                        "minimum": -MOST_GAIN_DB,
                        "maximum": MOST_GAIN_DB,
                    },
                },
            )
        ),
        "responses": {"200": _answer("how it is now")},
    },
    ("GET", "/v1/models"): {
        "responses": {
            "200": _answer(
                "recognisers in use, and names that clients insist on",
                _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
            )
        }
    },
    ("GET", "/v1/models/{model}"): {"responses": {"200": _answer("it", _ref("Model"))}},
    ("POST", "/v1/audio/transcriptions"): {
        "summary": "Transcribe a file, in OpenAI's shape.",
        "requestBody": _body(_FORM, "multipart/form-data"),
        "responses": {
            "200": {
                "description": "the text, in the format that was asked for",
                "content": {
                    _JSON: {"schema": _ref("Transcription")},
                    **{kind: {"schema": _TEXT} for kind in _TEXT_FORMATS},
                },
            }
        },
    },
}
"""(method, path) -> fields of the operation."""
