"""The core data types, in the field's own words. Standard library and numpy only.

Inside the agent audio is 16 kHz mono, and time is a sample index counted from the start of
the stream; milliseconds are derived from it (16 samples each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
"""Samples a second of all audio behind the converters."""
SAMPLES_PER_MS = SAMPLE_RATE // 1000
MIN_RATE = 4_000
"""Hz. Below half of telephone rate speech is no longer intelligible, and each input sample
would grow into more than four."""
MAX_RATE = 192_000
"""Hz. The highest rate that sound cards offer; beyond it the number is a mistake."""

Int16 = NDArray[np.int16]
"""Mono samples, shape [n]."""
Float32 = NDArray[np.float32]


class RecognitionMode(str, Enum):
    """How a stream is recognised, by FunASR's own names."""

    OFFLINE = "offline"
    """Only finals: each speech segment is decoded once, when it has ended."""
    ONLINE = "online"
    """Only the streaming recogniser: partials, and a final from the same model."""
    TWO_PASS = "2pass"
    """Partials from the streaming recogniser, finals from the offline one."""


@dataclass(frozen=True)
class AudioFormat:
    """Sampling rate in Hz and number of channels."""

    rate: int = SAMPLE_RATE
    channels: int = 1


@dataclass(frozen=True)
class AudioChunk:
    """Consecutive mono samples of a stream."""

    samples: Int16
    """Shape [n]."""
    start: int
    """Index of the first sample, counted from the start of the stream."""


@dataclass(frozen=True)
class StreamOptions:
    """What a client asks of one stream."""

    mode: RecognitionMode = RecognitionMode.TWO_PASS
    chunk_size: tuple[int, int, int] = (5, 10, 5)
    """Look-back, hop and look-ahead of the streaming recogniser, in units of 60 ms."""
    sample_rate: int = SAMPLE_RATE
    """Rate of the audio that the client sends, in Hz."""
    hotwords: tuple[tuple[str, int], ...] = ()
    """Pairs of phrase and weight."""
    itn: bool = True
    """Numbers, dates and money as they are written."""
    language: str = "auto"
    wav_name: str = ""
    punctuation: bool = True
    """Marks in finals, where a model puts them."""


@dataclass(frozen=True)
class VadBoundary:
    """A point where speech starts or ends, as the VAD decided it."""

    kind: Literal["start", "end"]
    ms: int
    """Milliseconds from the start of the stream."""


@dataclass(frozen=True)
class Recognition:
    """What a recogniser read in a piece of audio."""

    text: str
    tokens: tuple[str, ...] = ()
    timestamps: tuple[tuple[int, int], ...] = ()
    """Start and end of each token in ms from the start of the audio; empty when unknown."""
    language: str = ""
    emotion: str = ""
    event: str = ""
    formatted: bool = False
    """The recogniser wrote punctuation and numbers itself: no second model is to do it again."""


@dataclass(frozen=True)
class SpeechSegment:
    """One stretch of speech between two VAD boundaries, ready for the offline pass."""

    id: int
    """Counts from 0 within its stream."""
    start_ms: int
    end_ms: int
    samples: Int16
    """Shape [(lead_ms + end_ms - start_ms) * 16], and silence behind where the stream ended."""
    lead_ms: int = 0
    """Silence that was put before the audio."""


@dataclass(frozen=True)
class SpokenCommand:
    """A configured command that a text was found to be."""

    name: str
    slots: Mapping[str, str | int]
    """Slot -> what was said there: a value of its list, a number, or digits as a text."""
    phrase: str
    """The phrase as it is configured."""
    edits: int
    """Characters by which the text differs from it."""


@dataclass(frozen=True)
class Transcript:
    """Text of one segment. A final replaces every partial of the same segment."""

    session_id: str
    segment_id: int
    text: str
    is_final: bool
    start_ms: int
    end_ms: int
    tokens: tuple[str, ...] = ()
    timestamps: tuple[tuple[int, int], ...] = ()
    """Start and end of each token in ms from the start of the stream; empty when unknown."""
    language: str = ""
    emotion: str = ""
    event: str = ""
    spoken: str = ""
    """The text before its numbers were rewritten, which `tokens` spell; empty when it is `text`."""
    command: SpokenCommand | None = None
    """The command that a final is."""


@dataclass(frozen=True)
class CommandHeard:
    """A final was one of the configured commands; follows that final."""

    session_id: str
    segment_id: int
    start_ms: int
    end_ms: int
    text: str
    """As it was read."""
    command: SpokenCommand


@dataclass(frozen=True)
class VoiceStarted:
    """The VAD heard speech begin."""

    session_id: str
    segment_id: int
    start_ms: int


@dataclass(frozen=True)
class VoiceStopped:
    """The VAD heard speech end; a final of the same segment follows, empty if nothing was read."""

    session_id: str
    segment_id: int
    end_ms: int


@dataclass(frozen=True)
class AudioGap:
    """Audio that never reached the recogniser; said, never silent."""

    session_id: str
    start_ms: int
    dropped_ms: int


@dataclass(frozen=True)
class StreamError:
    """The stream ended by a failure of the agent; other streams go on."""

    session_id: str
    code: str
    message: str


@dataclass(frozen=True)
class StreamFinished:
    """Everything that was sent has been recognised; always the last event of a stream."""

    session_id: str
    duration_ms: int


StreamEvent = (
    Transcript
    | CommandHeard
    | VoiceStarted
    | VoiceStopped
    | AudioGap
    | StreamError
    | StreamFinished
)


@dataclass(frozen=True)
class FileTranscript:
    """Everything that was read in one file."""

    duration_s: float
    text: str
    """The texts of all segments, joined."""
    segments: tuple[Transcript, ...]
    """Finals with text, in order of time."""
    warning: str = ""
    """What of the file could not be read, where its text is not complete."""


class VadStream(Protocol):
    """Voice activity detection over one stream; memory stays bounded."""

    def accept(self, samples: Int16) -> list[VadBoundary]:
        """Take the next samples [n] and return the boundaries that they decide."""

    def finish(self) -> list[VadBoundary]:
        """End the stream: the boundaries still open. The stream can't be used after it."""


class VadModel(Protocol):
    """A voice activity detector. Safe to share between threads."""

    def start_stream(self) -> VadStream:
        """A fresh stream that holds all state of its own."""


class OnlineAsrStream(Protocol):
    """Streaming recognition of one utterance."""

    def accept(self, samples: Int16) -> Recognition | None:
        """Take the next samples [n]; the whole hypothesis so far when it grew, else None."""

    def finish(self) -> Recognition:
        """Flush the tail and return the whole hypothesis."""


class OnlineAsrModel(Protocol):
    """A streaming recogniser. Safe to share between threads."""

    def start_stream(self, options: StreamOptions) -> OnlineAsrStream:
        """State for one utterance; `options.chunk_size` sets the hop."""


class OfflineAsrModel(Protocol):
    """A recogniser of whole segments. Safe to share between threads."""

    @property
    def can_bias(self) -> bool:
        """Whether hotwords change what it reads."""

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        """What of `options` it can't honour and what it does instead, in plain words. May take
        as long as a short decode: not for an event loop."""

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        """Recognise each item ([n] samples); the results keep the order of the batch."""


class PunctuationStream(Protocol):
    """Punctuation of the segments of one stream, in their order."""

    def punctuate(self, text: str) -> str:
        """The next segment's text with marks; nothing else of it changes."""


class PunctuationModel(Protocol):
    """Puts punctuation into recognised text. Safe to share between threads."""

    def punctuate(self, text: str) -> str:
        """A whole text with marks; nothing else of it changes."""

    def start_stream(self) -> PunctuationStream:
        """A fresh stream that holds all state of its own."""


@dataclass(frozen=True)
class ModelSet:
    """The models that serve now. A stream keeps the set that it started with."""

    vad: VadModel
    online: OnlineAsrModel | None = None
    offline: OfflineAsrModel | None = None
    punctuation: PunctuationModel | None = None
    ids: dict[str, str] = field(default_factory=dict)
    """Role -> model id."""
