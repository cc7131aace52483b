"""The header of a WAV file inside a stream of raw audio."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_HEADER = 65536
"""Bytes in which the audio must have begun."""
_PCM = 1
_EXTENSIBLE = 0xFFFE
_UNKNOWN_SIZE = 0x7FFF0000
"""Sizes from here on are placeholders of writers that stream."""


@dataclass(frozen=True)
class WavHeader:
    """What a RIFF header says, and how long it is."""

    rate: int
    channels: int
    bits: int
    is_pcm: bool
    length: int
    """Bytes before the first sample."""
    data_bytes: int | None
    """Bytes of audio; None when the writer did not know."""


def may_be_riff(data: bytes) -> bool:
    """Whether the first bytes can still turn out to be a WAV file's."""
    pattern = (b"RIFF", b"WAVE")
    head, kind = data[:4], data[8:12]
    return pattern[0].startswith(head) and pattern[1].startswith(kind)


def read_header(data: bytes) -> WavHeader | None:
    """The header; None when more bytes are needed. Raises ValueError when it is malformed."""
    if len(data) < 12:
        return None
    at, layout = 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"data":
            if layout is None:
                raise ValueError("the WAV header has no format")
            code, channels, rate, _, _, bits = layout
            is_pcm = code in (_PCM, _EXTENSIBLE)
            known = size if 0 < size < _UNKNOWN_SIZE else None
            return WavHeader(rate, channels, bits, is_pcm, at + 8, known)
        if name == b"fmt " and at + 8 + 16 <= len(data):
            layout = struct.unpack_from("<HHIIHH", data, at + 8)
        at += 8 + size + size % 2
    if at > MAX_HEADER or len(data) > MAX_HEADER:
        raise ValueError("the WAV header has no audio")
    return None
