"""OpenAI's shape: what a request for a transcription says, the list of models, errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import AgentError, ProtocolError
from agent.protocols.hotwords import DEFAULT_WEIGHT, MAX_HOTWORDS, read_hotwords
from agent.types import StreamOptions

RESPONSE_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
STREAMED_FORMATS = ("json", "text", "verbose_json")
GRANULARITIES = ("word", "segment")
ALIASES = ("whisper-1", "default")
"""Names that `GET /v1/models` lists beside the recognisers, for clients that insist on one."""
MAX_NAME = 200
_LANGUAGE = re.compile(r"[A-Za-z]{2,10}(?:[-_][A-Za-z0-9]{1,10})*")
_SEPARATORS = re.compile(r"[,，、;；\n]+")
_TRIMMED = " \t\r\"'.!?。！？:："


class BadRequest(AgentError):
    """A field of the request is wrong."""

    code = "bad_request"


@dataclass(frozen=True)
class TranscriptionRequest:
    """The text fields of `POST /v1/audio/transcriptions`."""

    options: StreamOptions
    response_format: str = "json"
    stream: bool = False
    progress: bool = False
    """Whether a streamed answer also tells how far it is (an addition of this agent)."""
    granularities: tuple[str, ...] = ("segment",)
    """What of the times `verbose_json` has."""


def parse_fields(fields: Mapping[str, Sequence[str]]) -> TranscriptionRequest:
    """The request that the fields of a form make; each field with all its values.

    Any `model` is taken: the box answers with the recogniser in use. Raises BadRequest naming the
    field, its value and what is supported.
    """
    response_format = _choice(fields, "response_format", "json", RESPONSE_FORMATS)
    stream = _flag(fields, "stream", False)
    if stream and response_format not in STREAMED_FORMATS:
        raise BadRequest(
            f"response_format {response_format} can't be streamed; streamed are "
            f"{', '.join(STREAMED_FORMATS)}"
        )
    if len(_text(fields, "model")) > MAX_NAME:
        raise BadRequest(f"model is longer than {MAX_NAME} characters")
    if "logprobs" in _all(fields, "include"):
        raise BadRequest("include[] asks for logprobs, which are not known here; leave it out")
    granularities = tuple(dict.fromkeys(_all(fields, "timestamp_granularities"))) or ("segment",)
    for wanted in granularities:
        if wanted not in GRANULARITIES:
            raise _wrong("timestamp_granularities[]", wanted, " and ".join(GRANULARITIES))
    language = _text(fields, "language") or "auto"
    check_language(language)
    return TranscriptionRequest(
        StreamOptions(
            language=language.lower(),
            hotwords=_hotwords(fields),
            itn=_flag(fields, "itn", True),
            punctuation=_flag(fields, "punctuation", True),
        ),
        response_format,
        stream,
        _flag(fields, "progress", False),
        granularities,
    )


def check_language(language: str) -> None:
    """Raises BadRequest for what can't be the name of a language."""
    if not _LANGUAGE.fullmatch(language):
        raise _wrong("language", language, "a code like zh or en, or auto")


def prompt_hotwords(prompt: str) -> tuple[tuple[str, int], ...]:
    """The phrases of a prompt: parted by commas, semicolons or lines, else its words.

    Raises BadRequest for too many.
    """
    parts = _SEPARATORS.split(prompt) if _SEPARATORS.search(prompt.strip()) else prompt.split()
    phrases = dict.fromkeys(phrase for part in parts if (phrase := part.strip(_TRIMMED)))
    if len(phrases) > MAX_HOTWORDS:
        raise BadRequest(f"the prompt has {len(phrases)} phrases; at most {MAX_HOTWORDS} are taken")
    return tuple((phrase, DEFAULT_WEIGHT) for phrase in phrases)


def error_body(code: str, message: str) -> dict[str, Any]:
    """The JSON of every error of the REST side."""
    return {"error": {"code": code, "message": message}}


def model_list(ids: Sequence[str], created: int) -> dict[str, Any]:
    """Body of `GET /v1/models`: the recognisers, and names that clients insist on."""
    names = dict.fromkeys([*ids, *(ALIASES if ids else ())])
    return {"object": "list", "data": [model_entry(name, created) for name in names]}


def model_entry(name: str, created: int) -> dict[str, Any]:
    """One model of the list; `created` is UNIX time."""
    return {"id": name, "object": "model", "created": created, "owned_by": "funasr-agent"}


def _hotwords(fields: Mapping[str, Sequence[str]]) -> tuple[tuple[str, int], ...]:
    try:
        given = read_hotwords(_text(fields, "hotwords"))
    except ProtocolError as error:
        raise BadRequest(error.message) from None
    return given or prompt_hotwords(_text(fields, "prompt"))


def _all(fields: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Values of a list: `name[]`, as the SDKs write it, or `name`, also joined by commas."""
    given = [*fields.get(f"{name}[]", ()), *fields.get(name, ())]
    return [part.strip() for value in given for part in value.split(",") if part.strip()]


def _text(fields: Mapping[str, Sequence[str]], name: str) -> str:
    values = fields.get(name, ())
    return values[-1].strip() if values else ""


def _choice(
    fields: Mapping[str, Sequence[str]], name: str, default: str, right: Sequence[str]
) -> str:
    value = _text(fields, name) or default
    if value not in right:
        raise _wrong(name, value, ", ".join(right))
    return value


def _flag(fields: Mapping[str, Sequence[str]], name: str, default: bool) -> bool:
    value = _text(fields, name).lower()
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    if value:
        raise _wrong(name, value, "true and false")
    return default


def _wrong(name: str, value: str, right: str) -> BadRequest:
    shown = repr(value if len(value) <= 40 else value[:40] + "...")
    return BadRequest(f"{name} is {shown}; supported are {right}")
