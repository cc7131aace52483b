"""Messages of the capture process."""

from __future__ import annotations

import numpy as np
import pytest

from agent.audio.capture_protocol import HEADER, Audio, Message, Opened, body_size, decode, encode
from agent.audio.source import InputDevice, SourceError, SourceState
from agent.errors import ProtocolError
from agent.types import AudioFormat

DEVICE = InputDevice(2, "Mikrofon ü", "usb:1-1,0", "ALSA", 48000, 2, True)


def back(message: Message) -> Message:
    data = encode(message)
    header, body = data[: HEADER.size], data[HEADER.size :]
    assert body_size(header) == len(body)
    return decode(header, body)


def test_audio_comes_back_with_its_losses() -> None:
    got = back(Audio(np.array([1, -2, 32767], np.int16), 5, 6, 7))
    assert isinstance(got, Audio)
    assert got.samples.tolist() == [1, -2, 32767]
    assert (got.dropped, got.clipped, got.overflows) == (5, 6, 7)


def test_an_open_device_comes_back_whole() -> None:
    sent = Opened(DEVICE, AudioFormat(48000, 2), "the wanted one is busy")
    assert back(sent) == sent


def test_a_failure_comes_back_with_its_state() -> None:
    got = back(SourceError(SourceState.BUSY, "arecord (process 7) holds it"))
    assert isinstance(got, SourceError)
    assert (got.state, got.message) == (SourceState.BUSY, "arecord (process 7) holds it")


@pytest.mark.parametrize(
    ("kind", "body"),
    [(b"a", b"12"), (b"a", bytes(13)), (b"o", b"{}"), (b"e", b'{"state": "?"}'), (b"x", b"")],
)
def test_what_is_no_message_is_refused(kind: bytes, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(HEADER.pack(kind, len(body)), body)


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="more than"):
        body_size(HEADER.pack(b"a", 1 << 30))
