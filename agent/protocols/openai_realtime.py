"""OpenAI's realtime transcription, what the client sends: settings and audio. No input, no output.

Read are today's `session.update` and the beta's `transcription_session.update`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.errors import ProtocolError
from agent.protocols.base import MAX_TEXT, parse_object
from agent.protocols.g711 import ALAW, RATE, ULAW
from agent.protocols.openai import BadRequest, check_language, prompt_hotwords
from agent.types import MAX_RATE, MIN_RATE, Int16, RecognitionMode, StreamOptions

DEFAULT_RATE = 24_000
MAX_NAME = 200
_FORMATS = {"audio/pcm": "pcm", "audio/pcmu": "ulaw", "audio/pcma": "alaw"}
_OLD_FORMATS = {"pcm16": "pcm", "g711_ulaw": "ulaw", "g711_alaw": "alaw"}
_TURNS = ("server_vad", "semantic_vad")


class RealtimeError(ProtocolError):
    """A client's event can't be used; the session goes on. `param` names the field."""

    event_id: str | None = None
    """The client's own id of its event."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_value"):
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True)
class RealtimeSettings:
    """What a session is set to."""

    encoding: str = "pcm"
    """pcm (16 bit little-endian), ulaw or alaw."""
    rate: int = DEFAULT_RATE
    """Hz of pcm; G.711 has 8000."""
    model: str = ""
    language: str = ""
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    finds_turns: bool = True
    """Whether the VAD cuts the audio; else the client does by committing it."""

    def options(self) -> StreamOptions:
        """For a stream with these settings."""
        hotwords = prompt_hotwords(", ".join(self.keywords) or self.prompt)
        return StreamOptions(
            mode=RecognitionMode.TWO_PASS,
            sample_rate=self.rate,
            hotwords=hotwords,
            language=self.language.lower() or "auto",
        )

    def to_json(self, vad: Mapping[str, Any]) -> dict[str, Any]:
        """The session as today's events show it; `vad` is what turns are found by."""
        names = {ours: theirs for theirs, ours in _FORMATS.items()}
        sound: dict[str, Any] = {"type": names[self.encoding]}
        if self.encoding == "pcm":
            sound["rate"] = self.rate
        inside = {
            "format": sound,
            "noise_reduction": None,
            "transcription": self._transcription(),
            "turn_detection": {"type": "server_vad", **vad} if self.finds_turns else None,
        }
        return {"type": "transcription", "audio": {"input": inside}, "include": []}

    def to_old_json(self, vad: Mapping[str, Any]) -> dict[str, Any]:
        """The session as the beta's events show it."""
        names = {ours: theirs for theirs, ours in _OLD_FORMATS.items()}
        return {
            "input_audio_format": names[self.encoding],
            "input_audio_transcription": self._transcription(),
            "turn_detection": {"type": "server_vad", **vad} if self.finds_turns else None,
        }

    def _transcription(self) -> dict[str, Any]:
        known = {"model": self.model, "language": self.language, "prompt": self.prompt}
        return {key: value for key, value in known.items() if value}


@dataclass(frozen=True)
class Update:
    """Settings, and whether they came in the beta's form."""

    settings: RealtimeSettings
    is_old: bool = False


@dataclass(frozen=True)
class Append:
    """Audio, as it came."""

    data: bytes


@dataclass(frozen=True)
class Commit:
    """What has been sent is one turn."""


@dataclass(frozen=True)
class Clear:
    """What has been sent and not committed is to be forgotten."""


ClientEvent = Update | Append | Commit | Clear


def parse_event(text: str, settings: RealtimeSettings) -> tuple[ClientEvent, str | None]:
    """An event of the client, over the `settings` in force, and its own id if it has one.

    Raises RealtimeError, which has the id as `event_id` where one could be read.
    """
    try:
        fields = parse_object(text)
    except ProtocolError as error:
        raise RealtimeError(error.message, code="invalid_json") from None
    given = fields.get("event_id")
    event_id = given[:MAX_NAME] if isinstance(given, str) else None
    try:
        return _read(fields, settings), event_id
    except RealtimeError as error:
        error.event_id = event_id
        raise


def decode_audio(data: bytes, settings: RealtimeSettings) -> tuple[Int16, bytes]:
    """Samples [n] at `settings.rate`, and the bytes of a sample that is not whole yet."""
    if settings.encoding != "pcm":
        table = ULAW if settings.encoding == "ulaw" else ALAW
        return table[np.frombuffer(data, np.uint8)], b""
    whole = len(data) - len(data) % 2
    return np.frombuffer(data[:whole], "<i2").astype(np.int16), data[whole:]


def _read(fields: Mapping[str, Any], settings: RealtimeSettings) -> ClientEvent:
    kind = fields.get("type")
    if kind == "session.update":
        return Update(_updated(_object(fields, "session"), settings))
    if kind == "transcription_session.update":
        return Update(_updated_old(_object(fields, "session"), settings), is_old=True)
    if kind == "input_audio_buffer.append":
        return Append(_audio(fields.get("audio")))
    if kind == "input_audio_buffer.commit":
        return Commit()
    if kind == "input_audio_buffer.clear":
        return Clear()
    known = (
        "session.update, transcription_session.update, input_audio_buffer.append, "
        "input_audio_buffer.commit, input_audio_buffer.clear"
    )
    raise RealtimeError(
        f"type is {_shown(kind)}; this box transcribes and takes {known}", param="type"
    )


def _updated(session: Mapping[str, Any], settings: RealtimeSettings) -> RealtimeSettings:
    kind = session.get("type", "transcription")
    if kind != "transcription":
        raise RealtimeError(
            f"session.type is {_shown(kind)}; this box only transcribes: send transcription",
            param="session.type",
        )
    inside = _object(_object(session, "audio", {}), "input", {}, "session.audio.input")
    if inside.get("format") is not None:
        form = _object(inside, "format", {}, "session.audio.input.format")
        settings = _with_format(settings, form.get("type"), _FORMATS, form.get("rate"))
    return _with_rest(settings, inside, "transcription", "session.audio.input", "turn_detection")


def _updated_old(session: Mapping[str, Any], settings: RealtimeSettings) -> RealtimeSettings:
    if session.get("input_audio_format") is not None:
        settings = _with_format(settings, session["input_audio_format"], _OLD_FORMATS, None)
    return _with_rest(settings, session, "input_audio_transcription", "session", "turn_detection")


def _with_format(
    settings: RealtimeSettings, name: object, names: Mapping[str, str], rate: object
) -> RealtimeSettings:
    encoding = names.get(name) if isinstance(name, str) else None
    if encoding is None:
        raise RealtimeError(
            f"the audio format is {_shown(name)}; taken are {', '.join(names)}", param="format"
        )
    if encoding != "pcm":
        return replace(settings, encoding=encoding, rate=RATE)
    rate = DEFAULT_RATE if rate is None else rate
    if isinstance(rate, bool) or not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE:
        raise RealtimeError(
            f"rate is {_shown(rate)}; taken are {MIN_RATE} to {MAX_RATE} Hz", param="rate"
        )
    return replace(settings, encoding=encoding, rate=rate)


def _with_rest(
    settings: RealtimeSettings, fields: Mapping[str, Any], transcription: str, at: str, turns: str
) -> RealtimeSettings:
    if fields.get(transcription) is not None:
        wanted = _object(fields, transcription, {}, f"{at}.{transcription}")
        settings = replace(
            settings,
            model=_text(wanted, "model", settings.model),
            language=_language(wanted, settings.language),
            prompt=_text(wanted, "prompt", settings.prompt),
            keywords=_keywords(wanted, settings.keywords),
        )
        try:
            settings.options()
        except BadRequest as error:
            raise RealtimeError(error.message, param=f"{at}.{transcription}.prompt") from None
    if turns in fields:
        wanted_turns = fields[turns]
        if wanted_turns is not None:
            kind = _object(fields, turns, {}, f"{at}.{turns}").get("type", "server_vad")
            if kind not in _TURNS:
                raise RealtimeError(
                    f"turn_detection.type is {_shown(kind)}; taken are {', '.join(_TURNS)}",
                    param=f"{at}.{turns}.type",
                )
        settings = replace(settings, finds_turns=wanted_turns is not None)
    return settings


def _language(fields: Mapping[str, Any], before: str) -> str:
    language = _text(fields, "language", before)
    try:
        check_language(language or "auto")
    except BadRequest as error:
        raise RealtimeError(error.message, param="language") from None
    return language


def _keywords(fields: Mapping[str, Any], before: tuple[str, ...]) -> tuple[str, ...]:
    value = fields.get("keywords")
    if value is None:
        return before
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise RealtimeError("keywords must be a list of texts", param="keywords")
    return tuple(value)


def _audio(value: object) -> bytes:
    try:
        if not isinstance(value, str):
            raise ValueError
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise RealtimeError("audio must be a text in base64", param="audio") from None


def _object(
    fields: Mapping[str, Any], key: str, default: Any = None, path: str = ""
) -> Mapping[str, Any]:
    value = fields.get(key, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, dict):
        name = path or key
        raise RealtimeError(f"{name} is {_shown(value)}; it must be an object", param=name)
    return value


def _text(fields: Mapping[str, Any], key: str, default: str) -> str:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise RealtimeError(f"{key} must be a text of at most {MAX_TEXT} characters", param=key)
    return value.encode("utf-8", "replace").decode()


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "..."
