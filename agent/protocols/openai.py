"""OpenAI's shape of transcriptions and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import AgentError
from agent.types import FileTranscript, StreamOptions

RESPONSE_FORMATS = ("json", "text")


class BadRequest(AgentError):
    """A field of the request is wrong."""

    code = "bad_request"


@dataclass(frozen=True)
class TranscriptionRequest:
    """The text fields of `POST /v1/audio/transcriptions`."""

    options: StreamOptions
    response_format: str


def parse_fields(fields: Mapping[str, str]) -> TranscriptionRequest:
    """Raises BadRequest naming the field, its value and what is supported."""
    response_format = fields.get("response_format", "json")
    if response_format not in RESPONSE_FORMATS:
        raise BadRequest(
            f"response_format is {response_format!r}; supported are {', '.join(RESPONSE_FORMATS)}"
        )
    if fields.get("stream", "false").lower() not in ("false", "0", ""):
        raise BadRequest("stream=true is not supported; leave it out")
    prompt = fields.get("prompt", "").strip()
    hotwords = tuple((word, 20) for word in prompt.split()) if prompt else ()
    language = fields.get("language", "auto") or "auto"
    return TranscriptionRequest(
        StreamOptions(language=language, hotwords=hotwords), response_format
    )


def render(transcript: FileTranscript, response_format: str) -> tuple[str | dict[str, Any], str]:
    """Body and content type of a transcription."""
    if response_format == "text":
        return transcript.text + "\n", "text/plain"
    body: dict[str, Any] = {"text": transcript.text}
    if transcript.warning:
        body["warning"] = transcript.warning
    return body, "application/json"


def error_body(code: str, message: str) -> dict[str, Any]:
    """The JSON of every error of the REST side."""
    return {"error": {"code": code, "message": message}}


def model_list(ids: list[str], created: int) -> dict[str, Any]:
    """Body of `GET /v1/models`."""
    return {
        "object": "list",
        "data": [
            {"id": model, "object": "model", "created": created, "owned_by": "funasr-agent"}
            for model in ids
        ],
    }
