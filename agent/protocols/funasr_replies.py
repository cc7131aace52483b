"""Replies of FunASR's WebSocket protocol, in the profile that satisfies every client at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agent.joining import join_texts
from agent.protocols.sentences import split_sentences, unit_times
from agent.stamps import MARKS
from agent.types import (
    RecognitionMode,
    StreamError,
    StreamEvent,
    StreamFinished,
    Transcript,
)


@dataclass
class FunasrWriter:
    """Events of one stream to messages.

    Clients append what they get to what they show, without a space of their own, so a text that
    begins a word after another word carries its leading space.
    """

    mode: RecognitionMode
    wav_name: str
    acknowledge: bool = False
    """Whether the client waits for an acknowledgement (`is_end`)."""
    _shown: dict[int, str] = field(default_factory=dict)
    """Open segment -> its text that the increments have added up to."""
    _finals: list[Transcript] = field(default_factory=list)
    """Offline mode: everything, for the one message at the end."""
    _last_char: str = ""
    """Last character that stays on the client's display."""
    _failure: str = ""
    _warning: str = ""

    def send(self, event: StreamEvent) -> list[str]:
        """The messages for an event; none for most."""
        if isinstance(event, Transcript):
            return self._transcript(event)
        if isinstance(event, StreamFinished):
            return self._finish()
        if isinstance(event, StreamError):
            return self.fail(event.message)
        return []

    def end_input(self, *, acknowledge: bool, stray_bytes: int = 0) -> list[str]:
        """The client has ended its input; an acknowledgement that is owed at once.

        A failure that was told before the end must be acknowledged too, or the client waits.
        """
        self.acknowledge = acknowledge
        if stray_bytes:
            self.warn(f"the last {stray_bytes} byte(s) made no 16-bit sample and were dropped")
        if self._failure and acknowledge:
            return [self._message(self._last_mode, "", False, is_end=True, error=self._failure)]
        return []

    def warn(self, warning: str) -> None:
        """Something to be said with the last message; nothing when empty."""
        self._warning = warning or self._warning

    def fail(self, reason: str) -> list[str]:
        """The stream ended by a failure: nobody is left waiting."""
        self._failure = reason
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
            increment = self._grow(event)
            return [self._message("2pass-online", increment, False)] if increment else []
        return self._sentence(event)

    def _sentence(self, event: Transcript) -> list[str]:
        """The final of a segment. Clients clear all partials at it, also those of the next
        segment, so what comes next is told from its beginning."""
        had_partials = event.segment_id in self._shown
        if not event.text and not had_partials:
            return []
        self._shown.clear()
        text = self._after_last(event.text)
        self._last_char = text[-1:] or self._last_char
        return [self._message("2pass-offline", text, False, **_times([event]))]

    def _online(self, event: Transcript) -> list[str]:
        """Increments of the whole stream: their sum is its transcript."""
        increment = self._grow(event)
        if event.is_final:
            told = self._shown.pop(event.segment_id, "")
            self._last_char = told[-1:] or self._last_char
        return [self._message("online", increment, False)] if increment else []

    def _grow(self, event: Transcript) -> str:
        """What is new in a segment's text. What was told can't be taken back: a partial that
        rewrote itself waits, a final adds what goes beyond what was told."""
        told = self._shown.get(event.segment_id)
        if told is None:
            if not event.text:
                return ""
            increment = self._after_last(event.text)
        elif event.is_final:
            increment = _beyond(told, event.spoken or event.text)
        elif event.text.startswith(told):
            increment = event.text[len(told) :]
        else:
            return ""
        self._shown[event.segment_id] = event.text if increment else (told or "")
        return increment

    def _after_last(self, text: str) -> str:
        """`text` with the space that parts it from what is on display."""
        open_texts = [told for told in self._shown.values() if told]
        last = open_texts[-1][-1] if open_texts else self._last_char
        return join_texts([last, text])[len(last) :]

    def _finish(self) -> list[str]:
        text, extra = "", {}
        if self.mode is RecognitionMode.OFFLINE:
            finals = sorted(self._finals, key=lambda final: final.segment_id)
            text, extra = join_texts(final.text for final in finals), _times(finals)
        if self._warning:
            extra["warning"] = self._warning
        messages = [self._message(self._last_mode, text, True, **extra)]
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


def _beyond(told: str, text: str) -> str:
    """What of a final goes beyond its partials, in which there were no marks."""
    at = 0
    for char in told:
        while at < len(text) and text[at] != char and text[at] in MARKS:
            at += 1
        if text[at : at + 1] != char:
            return text[len(told) :]
        at += 1
    return text[at:]


def _times(finals: list[Transcript]) -> dict[str, Any]:
    """`timestamp` as a JSON text and `stamp_sents`; nothing when any times are unknown.

    No spaces in the text: the C# client reads it with a pattern that knows none.
    """
    if not finals or not all(final.timestamps for final in finals):
        return {}
    pairs = [list(pair) for final in finals for pair in unit_times(final)]
    sentences = [sentence for final in finals for sentence in split_sentences(final)]
    return {"timestamp": json.dumps(pairs, separators=(",", ":")), "stamp_sents": sentences}
