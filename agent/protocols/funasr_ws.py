"""FunASR's WebSocket protocol, as its clients in several languages really speak it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agent.errors import ProtocolError
from agent.joining import join_texts
from agent.protocols.base import (
    INVALID_DATA,
    parse_object,
    read_bool,
    read_chunk_size,
    read_rate,
    read_text,
    wrong,
)
from agent.protocols.hotwords import read_hotwords
from agent.protocols.riff import WavHeader, may_be_riff, read_header
from agent.types import (
    MAX_RATE,
    MIN_RATE,
    Int16,
    RecognitionMode,
    StreamError,
    StreamEvent,
    StreamFinished,
    StreamOptions,
    Transcript,
)

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


FunasrInput = Begin | Audio | FileBytes | End


class FunasrReader:
    """Client messages to inputs. After `End` the same socket may start over."""

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
        is_end = read_bool(fields, "is_end", False)
        self._reset()
        self._is_end = is_end
        return [*inputs, End()]

    def receive_bytes(self, data: bytes) -> list[FunasrInput]:
        """A binary message: samples of any number, a WAV header, or a piece of a file."""
        if self._is_container:
            return [FileBytes(data)]
        if not self._sniffed:
            self._head += data
            return self._sniff()
        return self._samples(data)

    def _reset(self) -> None:
        self.__init__()  # type: ignore[misc]

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
    if not mode and read_text(fields, "wav_format", "pcm").lower() != "pcm":
        chosen = RecognitionMode.OFFLINE  # C++ offline clients name no mode
    itn = read_bool(fields, "itn", before.itn)
    return replace(
        before,
        mode=chosen,
        chunk_size=read_chunk_size(fields) if "chunk_size" in fields else before.chunk_size,
        sample_rate=read_rate(fields, "audio_fs") if "audio_fs" in fields else before.sample_rate,
        hotwords=(read_hotwords(fields["hotwords"]) if "hotwords" in fields else before.hotwords),
        itn=read_bool(fields, "svs_itn", itn) if "itn" not in fields else itn,
        language=read_text(fields, "svs_lang", before.language),
        wav_name=read_text(fields, "wav_name", before.wav_name),
    )


@dataclass
class FunasrWriter:
    """Events of one stream to messages, in the profile that satisfies every client at once."""

    mode: RecognitionMode
    wav_name: str
    acknowledge: bool = False
    """Set before the last event when the client asked for it."""
    _shown: dict[int, str] = field(default_factory=dict)
    """Segment -> what its increments have added up to."""
    _finals: list[Transcript] = field(default_factory=list)
    _spoken: str = ""
    """Online mode: everything that was sent."""

    def send(self, event: StreamEvent) -> list[str]:
        """The messages for an event; none for most."""
        if isinstance(event, Transcript):
            return self._transcript(event)
        if isinstance(event, StreamFinished):
            return self._finish()
        if isinstance(event, StreamError):
            return self.fail(event.message)
        return []

    def fail(self, reason: str) -> list[str]:
        """The stream ended by a failure: nobody is left waiting."""
        if self.acknowledge:
            return [self._message(self._last_mode, "", False, is_end=True, error=reason)]
        return [self._message(self._last_mode, "", True, error=reason)]

    @property
    def _last_mode(self) -> str:
        return "2pass-offline" if self.mode is RecognitionMode.TWO_PASS else self.mode.value

    def _transcript(self, event: Transcript) -> list[str]:
        if self.mode is RecognitionMode.OFFLINE:
            if event.is_final and event.text:
                self._finals.append(event)
            return []
        if self.mode is RecognitionMode.ONLINE:
            return self._online(event)
        if not event.is_final:
            return self._partial(event)
        had_partials = self._shown.pop(event.segment_id, "")
        if not event.text and not had_partials:
            return []
        return [self._message("2pass-offline", event.text, False, **_times([event]))]

    def _partial(self, event: Transcript) -> list[str]:
        """Only what is new: clients append it to what they show."""
        shown = self._shown.get(event.segment_id, "")
        if not event.text.startswith(shown) or event.text == shown:
            return []
        self._shown[event.segment_id] = event.text
        return [self._message("2pass-online", event.text[len(shown) :], False)]

    def _online(self, event: Transcript) -> list[str]:
        """Increments of the whole stream, so that their sum is its transcript."""
        earlier = join_texts(final.text for final in self._finals)
        said = join_texts([earlier, event.text])
        if event.is_final:
            self._finals.append(event)
        if not said.startswith(self._spoken) or said == self._spoken:
            return []
        increment, self._spoken = said[len(self._spoken) :], said
        return [self._message("online", increment, False)]

    def _finish(self) -> list[str]:
        text, times = "", {}
        if self.mode is RecognitionMode.OFFLINE:
            finals = sorted(self._finals, key=lambda final: final.segment_id)
            text, times = join_texts(final.text for final in finals), _times(finals)
        messages = [self._message(self._last_mode, text, True, **times)]
        if self.acknowledge:
            messages.append(self._message(self._last_mode, "", True, is_end=True))
        return messages

    def _message(self, mode: str, text: str, is_final: bool, **more: Any) -> str:
        fields = {
            "mode": mode,
            "text": text,
            "wav_name": self.wav_name,
            "is_final": is_final,
            **more,
        }
        return json.dumps(fields, ensure_ascii=False)


def _times(finals: list[Transcript]) -> dict[str, Any]:
    """`timestamp` as a JSON text and `stamp_sents`; nothing when any times are unknown."""
    if not finals or not all(final.timestamps for final in finals):
        return {}
    pairs = [list(pair) for final in finals for pair in final.timestamps]
    sentences = [
        {
            "text_seg": " ".join(final.tokens),
            "punc": "",
            "start": final.timestamps[0][0],
            "end": final.timestamps[-1][1],
            "ts_list": [list(pair) for pair in final.timestamps],
        }
        for final in finals
    ]
    return {"timestamp": json.dumps(pairs), "stamp_sents": sentences}
