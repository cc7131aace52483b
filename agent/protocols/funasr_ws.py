"""FunASR's WebSocket protocol, as its clients in several languages really speak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.errors import ProtocolError
from agent.protocols.base import (
    INVALID_DATA,
    parse_object,
    read_bool,
    read_chunk_size,
    read_rate,
    read_text,
    wrong,
)
from agent.protocols.funasr_replies import FunasrWriter
from agent.protocols.hotwords import read_hotwords
from agent.protocols.riff import WavHeader, may_be_riff, read_header
from agent.types import MAX_RATE, MIN_RATE, Int16, RecognitionMode, StreamOptions

__all__ = [
    "Audio",
    "Begin",
    "End",
    "FileBytes",
    "FunasrInput",
    "FunasrReader",
    "FunasrWriter",
]

_MODES = {
    "offline": RecognitionMode.OFFLINE,
    "office": RecognitionMode.OFFLINE,  # a typo in one of FunASR's own C# clients
    "online": RecognitionMode.ONLINE,
    "2pass": RecognitionMode.TWO_PASS,
}
_RAW_FORMATS = ("", "pcm", "wav")
"""Formats whose bytes are samples, perhaps behind a WAV header; any other is a container."""


@dataclass(frozen=True)
class Begin:
    """A stream starts with these options. `is_container`: its bytes are a file to be decoded."""

    options: StreamOptions
    is_container: bool = False


@dataclass(frozen=True)
class Audio:
    """Samples [n] at the stream's rate."""

    samples: Int16


@dataclass(frozen=True)
class FileBytes:
    """The next bytes of an encoded file."""

    data: bytes


@dataclass(frozen=True)
class End:
    """End of input; the codec knows whether the client wants an acknowledgement."""

    stray_bytes: int = 0
    """Bytes at the end that make no whole sample and were dropped."""


FunasrInput = Begin | Audio | FileBytes | End


class FunasrReader:
    """Client messages to inputs. After `End` the same socket may start over.

    Hotwords outlive an end of input: the C++ client of many files names them before the first
    file only. Everything else is set afresh.
    """

    def __init__(self) -> None:
        self._options = StreamOptions()
        self._format = "pcm"
        self._begun = False
        self._sniffed = False
        self._is_container = False
        self._is_end = False
        self._head = b""
        self._odd = b""
        self._left: int | None = None
        """Bytes of audio that a WAV header promised and that have not come yet."""

    @property
    def options(self) -> StreamOptions:
        """Options of the stream that is open or will be opened next."""
        return self._options

    @property
    def wants_acknowledgement(self) -> bool:
        """Whether the last end of input asked for one (`is_end`)."""
        return self._is_end

    def receive_text(self, text: str) -> list[FunasrInput]:
        """A text message. Raises ProtocolError."""
        fields = parse_object(text)
        if not self._begun:
            self._options = _options(fields, self._options)
            self._format = read_text(fields, "wav_format", self._format).lower()
        ends = not read_bool(fields, "is_speaking", True) or read_bool(fields, "is_finished", False)
        if not ends:
            return []
        inputs = self._flush()
        end = End(stray_bytes=len(self._odd))
        is_end = read_bool(fields, "is_end", False)
        self._reset()
        self._is_end = is_end
        return [*inputs, end]

    def receive_bytes(self, data: bytes) -> list[FunasrInput]:
        """A binary message: samples of any number, a WAV header, or a piece of a file."""
        if self._is_container:
            return [FileBytes(data)]
        if not self._sniffed:
            self._head += data
            return self._sniff()
        return self._samples(data)

    def _reset(self) -> None:
        hotwords = self._options.hotwords
        self.__init__()  # type: ignore[misc]
        self._options = StreamOptions(hotwords=hotwords)

    def _begin(self, *, is_container: bool = False) -> list[FunasrInput]:
        self._begun, self._is_container = True, is_container
        return [Begin(self._options, is_container)]

    def _sniff(self) -> list[FunasrInput]:
        """Tell raw samples from a WAV header (which may come in pieces) and from a container."""
        if self._format not in _RAW_FORMATS and not self._head.startswith(b"RIFF"):
            return self._as_container()
        if not may_be_riff(self._head):
            return self._as_samples(0)
        try:
            header = read_header(self._head)
        except ValueError as error:
            raise ProtocolError(str(error), close_code=INVALID_DATA) from None
        if header is None:
            return []
        if not _is_plain(header):
            return self._as_container()
        self._options = replace(self._options, sample_rate=header.rate)
        self._left = header.data_bytes
        return self._as_samples(header.length)

    def _as_samples(self, skip: int) -> list[FunasrInput]:
        head, self._head, self._sniffed = self._head[skip:], b"", True
        return [*self._begin(), *self._samples(head)]

    def _as_container(self) -> list[FunasrInput]:
        head, self._head, self._sniffed = self._head, b"", True
        return [*self._begin(is_container=True), FileBytes(head)]

    def _samples(self, data: bytes) -> list[FunasrInput]:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        joined = self._odd + data
        whole = len(joined) - len(joined) % 2
        self._odd = joined[whole:]
        if not whole:
            return []
        return [Audio(np.frombuffer(joined[:whole], "<i2").astype(np.int16))]

    def _flush(self) -> list[FunasrInput]:
        """What waits for more bytes that will not come; a stray half sample is dropped."""
        if self._begun:
            return []
        if self._head and not self._head.startswith(b"RIFF"):
            return self._as_samples(0)
        if self._head:
            raise ProtocolError("the WAV file ends inside its header", close_code=INVALID_DATA)
        return self._begin()


def _is_plain(header: WavHeader) -> bool:
    """Whether the samples behind the header are what the stream carries: mono, 16 bit."""
    in_range = MIN_RATE <= header.rate <= MAX_RATE
    return header.is_pcm and header.channels == 1 and header.bits == 16 and in_range


def _options(fields: Mapping[str, Any], before: StreamOptions) -> StreamOptions:
    mode = read_text(fields, "mode", "").lower()
    if mode and mode not in _MODES:
        raise wrong("mode", mode, "offline, online or 2pass")
    chosen = _MODES.get(mode, before.mode)
    if not mode and read_text(fields, "wav_format", "").lower() not in ("", "pcm"):
        chosen = RecognitionMode.OFFLINE  # C++ offline clients name no mode
    itn = read_bool(fields, "itn", before.itn)
    return replace(
        before,
        mode=chosen,
        chunk_size=read_chunk_size(fields) if "chunk_size" in fields else before.chunk_size,
        sample_rate=read_rate(fields, "audio_fs") if "audio_fs" in fields else before.sample_rate,
        hotwords=(read_hotwords(fields["hotwords"]) if "hotwords" in fields else before.hotwords),
        itn=read_bool(fields, "svs_itn", itn) if "itn" not in fields else itn,
        punctuation=read_bool(fields, "punctuation", before.punctuation),
        language=read_text(fields, "svs_lang", before.language),
        wav_name=read_text(fields, "wav_name", before.wav_name),
    )
