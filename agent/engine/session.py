"""The two-pass session: samples in, events and segments for the second pass out.

Audio is re-blocked to hops of 100 ms, so that the same audio cut at any boundaries gives the
same events. A session does no waiting and starts no thread; one caller at a time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agent.engine.blocks import History, Reblocker
from agent.errors import InferenceError
from agent.types import (
    SAMPLE_RATE,
    SAMPLES_PER_MS,
    AudioGap,
    Int16,
    ModelSet,
    OnlineAsrStream,
    PunctuationStream,
    Recognition,
    RecognitionMode,
    SpeechSegment,
    StreamEvent,
    StreamOptions,
    Transcript,
    VadBoundary,
    VadStream,
    VoiceStarted,
    VoiceStopped,
)

_log = logging.getLogger(__name__)

HOP_SAMPLES = SAMPLE_RATE // 10
"""Samples that the VAD gets at a time."""
HISTORY_MS = 3000
"""Past audio kept for a start that the VAD decides late (window, look-back and pre-roll)."""

EDGE_MS = 200
"""Silence put where a segment touches the start or the end of the stream: recognisers are trained
on speech with some air around it, and a file cut to the word has none."""

SessionOutput = StreamEvent | SpeechSegment


class NumberRewriter(Protocol):
    """Writes numbers, dates and money as they are written; shared by all streams."""

    @property
    def problem(self) -> str:
        """Why it rewrites nothing; empty while it works."""

    def __call__(self, text: str, language: str) -> str:
        """The text as it is written. Never raises: what can't be rewritten stays as it is."""


@dataclass(frozen=True)
class SessionSettings:
    """How speech is cut out of the stream, and what finals go through."""

    pre_roll_ms: int = 100
    """Audio kept before the start that the VAD decided, so that no first syllable is lost."""
    itn: NumberRewriter | None = None
    """For finals of streams that ask for it; None: numbers stay as they are spoken."""


@dataclass
class _OpenSegment:
    """A segment whose end is not known yet."""

    id: int
    start: int
    """Index of its first sample."""
    lead_ms: int
    """Silence put before it."""
    online: OnlineAsrStream | None
    chunks: list[Int16]
    end: int
    """Index behind the last sample in `chunks`."""
    recognition: Recognition

    def cut(self, end: int, tail: Int16) -> SpeechSegment:
        """The segment up to sample `end`, with `tail` behind it."""
        samples = np.concatenate([np.zeros(0, np.int16), *self.chunks])[: end - self.start]
        return SpeechSegment(
            self.id,
            self.start // SAMPLES_PER_MS,
            end // SAMPLES_PER_MS,
            np.concatenate([_silence(self.lead_ms), samples, tail]),
            self.lead_ms,
        )


class Session:
    """Recognition of one stream of 16 kHz mono audio with the models of one set."""

    def __init__(
        self,
        models: ModelSet,
        options: StreamOptions,
        settings: SessionSettings = SessionSettings(),
        session_id: str = "",
    ) -> None:
        self.mode = effective_mode(models, options.mode)
        """The mode in use: what was asked for, or the nearest that the models can do."""
        self._models = models
        self._options = options
        self._settings = settings
        self._id = session_id
        self._pending = Reblocker(HOP_SAMPLES)
        self._history = History(HISTORY_MS * SAMPLES_PER_MS)
        self._vad: VadStream = models.vad.start_stream()
        self._vad_base = 0
        self._marks: PunctuationStream | None = None
        self._open: _OpenSegment | None = None
        self._first = 0
        """Index of the first sample of the stream, or behind the last gap."""
        self._ending = False
        self._last_end = 0
        self._next_id = 0

    @property
    def position_ms(self) -> int:
        """Milliseconds of audio taken so far."""
        return (self._history.end + self._pending.waiting) // SAMPLES_PER_MS

    def accept(self, samples: Int16) -> list[SessionOutput]:
        """Take the next samples, shape [n]; what they decided, in order."""
        out: list[SessionOutput] = []
        for hop in self._pending.push(samples):
            self._advance(hop, self._vad.accept(hop), out)
        return out

    def skip(self, samples: int) -> list[SessionOutput]:
        """Say that `samples` samples never arrived: open speech ends, time moves on."""
        if samples <= 0:
            return []
        out = self.finish()
        start_ms = self.position_ms
        self._history.restart(self._history.end + samples)
        self._first = self._last_end = self._vad_base = self._history.end
        self._ending = False
        self._vad = self._models.vad.start_stream()
        out.append(AudioGap(self._id, start_ms, samples // SAMPLES_PER_MS))
        return out

    def finish(self) -> list[SessionOutput]:
        """End of input: everything that is still open is decided."""
        out: list[SessionOutput] = []
        self._ending = True
        rest = self._pending.flush()
        boundaries = self._vad.accept(rest) if len(rest) else []
        self._advance(rest, boundaries + self._vad.finish(), out)
        if self._open is not None:
            self._close(self._history.end, out)
        return out

    def decode(self, segment: SpeechSegment) -> Transcript:
        """The offline pass over one segment. Safe in another thread than `accept`."""
        if self._models.offline is None:
            raise ValueError("the session has no offline recogniser")
        return self.complete(
            segment, self._models.offline.decode([segment.samples], self._options)[0]
        )

    def complete(self, segment: SpeechSegment, read: Recognition) -> Transcript:
        """The final of a segment that has been recognised: with punctuation, numbers rewritten.

        Segments in their order, one at a time; safe in another thread than `accept`.
        """
        spoken = text = read.text
        if text and not read.formatted:
            spoken = self._punctuated(text)
            text = self._with_numbers(spoken, read.language)
        return Transcript(
            self._id,
            segment.id,
            text,
            True,
            segment.start_ms,
            segment.end_ms,
            read.tokens,
            _moved(read.timestamps, segment),
            read.language,
            read.emotion,
            read.event,
            spoken if spoken != text else "",
        )

    def _advance(self, hop: Int16, boundaries: list[VadBoundary], out: list[SessionOutput]) -> None:
        self._history.push(hop)
        for boundary in boundaries:
            at = self._vad_base + boundary.ms * SAMPLES_PER_MS
            if boundary.kind == "start" and self._open is None:
                self._start(at, out)
            elif boundary.kind == "end" and self._open is not None:
                self._close(at, out)
        if self._open is not None:
            self._feed(self._open, self._history.end, out)

    def _start(self, at: int, out: list[SessionOutput]) -> None:
        pre_roll = self._settings.pre_roll_ms * SAMPLES_PER_MS
        earliest = max(self._last_end, self._history.start)
        start = min(max(at - pre_roll, earliest), self._history.end)
        online = None
        if self.mode is not RecognitionMode.OFFLINE and self._models.online is not None:
            online = self._models.online.start_stream(self._options)
        lead_ms = EDGE_MS if start <= self._first else 0
        self._open = _OpenSegment(self._next_id, start, lead_ms, online, [], start, Recognition(""))
        if online is not None and lead_ms:
            online.accept(_silence(lead_ms))
        self._next_id += 1
        out.append(VoiceStarted(self._id, self._open.id, start // SAMPLES_PER_MS))

    def _feed(self, segment: _OpenSegment, until: int, out: list[SessionOutput]) -> None:
        """Hand the audio up to `until` to the segment and to the streaming recogniser."""
        chunk = self._history.cut(segment.end, until)
        if not len(chunk):
            return
        segment.end += len(chunk)
        if self.mode is not RecognitionMode.ONLINE:
            segment.chunks.append(chunk)
        if segment.online is not None:
            self._partial(segment, segment.online.accept(chunk), out)

    def _partial(
        self, segment: _OpenSegment, read: Recognition | None, out: list[SessionOutput]
    ) -> None:
        if read is None:
            return
        grown = read.text != segment.recognition.text
        segment.recognition = read
        if grown:
            out.append(
                Transcript(
                    self._id,
                    segment.id,
                    read.text,
                    False,
                    segment.start // SAMPLES_PER_MS,
                    segment.end // SAMPLES_PER_MS,
                    read.tokens,
                )
            )

    def _close(self, at: int, out: list[SessionOutput]) -> None:
        segment, self._open = self._open, None
        if segment is None:
            return
        end = max(segment.start, min(at, self._history.end))
        touches_end = self._ending and self._history.end - end <= EDGE_MS * SAMPLES_PER_MS
        if touches_end:
            end = self._history.end
        tail = _silence(EDGE_MS if touches_end else 0)
        self._feed(segment, end, out)
        self._last_end = end
        if segment.online is not None:
            if len(tail):
                self._partial(segment, segment.online.accept(tail), out)
            self._partial(segment, segment.online.finish(), out)
        out.append(VoiceStopped(self._id, segment.id, end // SAMPLES_PER_MS))
        cut = segment.cut(end, tail)
        if self.mode is RecognitionMode.ONLINE:
            out.append(self.complete(cut, segment.recognition))
        else:
            out.append(cut)

    def _punctuated(self, text: str) -> str:
        """With the marks of the punctuation model; a model that fails loses no text."""
        if self._models.punctuation is None or not self._options.punctuation:
            return text
        try:
            if self._marks is None:
                self._marks = self._models.punctuation.start_stream()
            return self._marks.punctuate(text)
        except InferenceError as error:
            _log.warning("a final stays without punctuation: %s", error)
            return text

    def _with_numbers(self, text: str, language: str) -> str:
        if self._settings.itn is None or not self._options.itn:
            return text
        return self._settings.itn(text, language or self._options.language)


def effective_mode(models: ModelSet, asked: RecognitionMode) -> RecognitionMode:
    """`asked`, or what is left of it when one of the two recognisers is missing."""
    if models.online is None:
        return RecognitionMode.OFFLINE
    if models.offline is None:
        return RecognitionMode.ONLINE
    return asked


def _moved(
    timestamps: tuple[tuple[int, int], ...], segment: SpeechSegment
) -> tuple[tuple[int, int], ...]:
    """Times of the stream from those of a segment's audio, kept within the segment."""
    shift = segment.start_ms - segment.lead_ms

    def moved(ms: int) -> int:
        return min(max(ms + shift, segment.start_ms), segment.end_ms)

    return tuple((moved(start), moved(end)) for start, end in timestamps)


def _silence(ms: int) -> Int16:
    return np.zeros(ms * SAMPLES_PER_MS, np.int16)
