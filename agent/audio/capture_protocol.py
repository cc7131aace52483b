"""What the capture process tells the daemon: frames with a length, over a pipe. No I/O here."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.audio.source import InputDevice, SourceError, SourceState
from agent.errors import ProtocolError
from agent.said import by_code, from_code
from agent.types import AudioFormat, Int16

HEADER = struct.Struct("<cI")
"""Kind, and bytes of the body."""
MAX_BODY = 1 << 20
_AUDIO = struct.Struct("<III")
_KIND_AUDIO, _KIND_OPENED, _KIND_ERROR = b"a", b"o", b"e"


@dataclass(frozen=True)
class Opened:
    """A device is open; audio follows."""

    device: InputDevice
    format: AudioFormat
    """As it was opened; the audio that follows is 16 kHz mono."""
    instead: str = ""
    """Why the wanted device was not opened; empty when it was."""


@dataclass(frozen=True)
class Audio:
    """The next 16 kHz mono samples, shape [n]."""

    samples: Int16
    dropped: int = 0
    """Samples lost before them, at 16 kHz."""
    clipped: int = 0
    """Of the native samples of these, those at full scale."""
    overflows: int = 0
    """How often PortAudio lost input since the last message; it does not tell how much."""


Message = Opened | Audio | SourceError


def encode(message: Message) -> bytes:
    """Header and body."""
    if isinstance(message, Audio):
        head = _AUDIO.pack(message.dropped, message.clipped, message.overflows)
        body = head + message.samples.astype("<i2", copy=False).tobytes()
        kind = _KIND_AUDIO
    elif isinstance(message, Opened):
        kind, body = _KIND_OPENED, _dump(_opened_fields(message))
    else:
        fields = {"state": message.state, "message": by_code(message.message)}
        kind, body = _KIND_ERROR, _dump(fields)
    return HEADER.pack(kind, len(body)) + body


def body_size(header: bytes) -> int:
    """Bytes that follow a header. Raises ProtocolError for more than MAX_BODY."""
    _, size = HEADER.unpack(header)
    if size > MAX_BODY:
        raise ProtocolError(f"the capture process announced {size} bytes, more than {MAX_BODY}")
    return int(size)


def decode(header: bytes, body: bytes) -> Message:
    """A message. Raises ProtocolError when it is malformed."""
    kind, _ = HEADER.unpack(header)
    try:
        if kind == _KIND_AUDIO:
            dropped, clipped, overflows = _AUDIO.unpack_from(body)
            samples = np.frombuffer(body, "<i2", offset=_AUDIO.size).astype(np.int16)
            return Audio(samples, dropped, clipped, overflows)
        fields = json.loads(body)
        if kind == _KIND_OPENED:
            device = InputDevice(**fields["device"])
            native = AudioFormat(**fields["format"])
            return Opened(device, native, from_code(fields["instead"]))
        if kind == _KIND_ERROR:
            return SourceError(SourceState(fields["state"]), from_code(fields["message"]))
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"the capture process sent a malformed message: {error}") from None
    raise ProtocolError(f"the capture process sent a message of unknown kind {kind!r}")


def _opened_fields(message: Opened) -> dict[str, Any]:
    native = {"rate": message.format.rate, "channels": message.format.channels}
    instead = by_code(message.instead)
    return {"device": message.device.to_json(), "format": native, "instead": instead}


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()
