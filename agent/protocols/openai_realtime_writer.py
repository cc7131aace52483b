"""OpenAI's realtime transcription, what the server says: events of streams as events of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.joining import join_texts
from agent.types import (
    AudioGap,
    CommandHeard,
    StreamError,
    StreamEvent,
    StreamFinished,
    Transcript,
    VoiceStarted,
    VoiceStopped,
)

Event = dict[str, Any]
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_MS = 1000


@dataclass
class _Item:
    """One piece of audio that becomes one text."""

    id: str
    start_ms: int = 0
    end_ms: int = 0
    sent: dict[int, str] = field(default_factory=dict)
    """Segment -> what of its text has gone out as deltas."""
    whole: str = ""
    """All deltas joined."""
    finals: dict[int, str] = field(default_factory=dict)
    committed: bool = False

    def grow(self, segment_id: int, text: str) -> str:
        """What can be added now; deltas can't be taken back, so nothing for a changed start."""
        before = self.sent.get(segment_id, "")
        if not text.startswith(before) or segment_id < max(self.sent, default=0):
            return ""
        whole = self.whole + text[len(before) :] if before else join_texts([self.whole, text])
        added = whole[len(self.whole) :]
        self.sent[segment_id], self.whole = text, whole
        return added

    def text(self) -> str:
        return join_texts(self.finals[key] for key in sorted(self.finals))


class RealtimeWriter:
    """Ids and order of one session's events. Streams follow each other in it."""

    def __init__(self, make_id: Callable[[str], str]) -> None:
        """`make_id(prefix)` gives a new id."""
        self._make_id = make_id
        self._previous: str | None = None

    def event(self, kind: str, **fields: Any) -> Event:
        """An event with an id of its own."""
        return {"type": kind, "event_id": self._make_id("event"), **fields}

    def error(
        self,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        event_id: str | None = None,
    ) -> Event:
        """What went wrong; `event_id` is that of the client's event."""
        body = {"type": kind, "code": code, "message": message, "param": param}
        return self.event("error", error={**body, "event_id": event_id})

    def turns(self, base_ms: int, *, finds_turns: bool) -> TurnWriter:
        """For the events of the next stream, which begins `base_ms` into the session's audio."""
        return TurnWriter(self, base_ms, finds_turns=finds_turns)

    def new_item(self) -> str:
        """Id of a new item."""
        return self._make_id("item")

    def commit(self, item_id: str) -> list[Event]:
        """An item has its audio: it is put behind the one before."""
        previous, self._previous = self._previous, item_id
        content = [{"type": "input_audio", "transcript": None}]
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": content,
        }
        return [
            self.event("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous),
            self.event("conversation.item.added", item=item, previous_item_id=previous),
        ]


class TurnWriter:
    """The events of one stream, as items: one a segment where the VAD finds the turns, else one
    for the whole stream. `commit` is to be called when its client commits it."""

    def __init__(self, session: RealtimeWriter, base_ms: int, *, finds_turns: bool) -> None:
        self._session = session
        self._base_ms = base_ms
        self._finds_turns = finds_turns
        self._items: dict[int, _Item] = {}
        self._whole: _Item | None = None
        self._owed = False
        """Whether a commit of the client has made no item yet."""

    def commit(self) -> list[Event]:
        """The client commits what it has sent; the stream's end follows."""
        if self._finds_turns:
            self._owed = not self._items
            return []
        item = self._all()
        item.committed = True
        return self._session.commit(item.id)

    def send(self, event: StreamEvent) -> list[Event]:
        """What an event of the stream becomes."""
        if isinstance(event, StreamError):
            return self._failed(event)
        if isinstance(event, StreamFinished):
            return self._finished(event)
        if isinstance(event, AudioGap | CommandHeard):
            return []
        if not self._finds_turns:
            return self._of_whole(event)
        if isinstance(event, VoiceStarted):
            return [self._started(event)]
        item = self._items.setdefault(event.segment_id, _Item(self._session.new_item()))
        if isinstance(event, VoiceStopped):
            return self._stopped(item, event)
        assert isinstance(event, Transcript)
        if not event.is_final:
            return self._delta(item, event)
        del self._items[event.segment_id]
        committed = [] if item.committed else self._session.commit(item.id)
        item.finals[0] = event.text
        seconds = (event.end_ms - event.start_ms) / _MS
        delta = self._delta(item, event)
        return [*committed, *delta, self._completed(item, seconds)]

    def _started(self, event: VoiceStarted) -> Event:
        item = _Item(self._session.new_item(), start_ms=event.start_ms)
        self._items[event.segment_id] = item
        self._owed = False
        return self._session.event(
            "input_audio_buffer.speech_started",
            audio_start_ms=self._base_ms + event.start_ms,
            item_id=item.id,
        )

    def _stopped(self, item: _Item, event: VoiceStopped) -> list[Event]:
        item.committed = True
        stopped = self._session.event(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=self._base_ms + event.end_ms,
            item_id=item.id,
        )
        return [stopped, *self._session.commit(item.id)]

    def _of_whole(self, event: StreamEvent) -> list[Event]:
        if not isinstance(event, Transcript):
            return []
        item = self._all()
        if event.is_final:
            item.finals[event.segment_id] = event.text
        return self._delta(item, event)

    def _finished(self, event: StreamFinished) -> list[Event]:
        if not self._finds_turns:
            return [self._completed(self._all(), event.duration_ms / _MS)]
        if not self._owed:
            return []
        item = _Item(self._session.new_item())
        return [*self._session.commit(item.id), self._completed(item, 0.0)]

    def _failed(self, error: StreamError) -> list[Event]:
        """Each item that waits for its text is told of; the client may go on with new audio."""
        waiting = list(self._items.values())
        if not self._finds_turns:
            waiting = [self._all()]
        reason = {"type": "server_error", "code": error.code, "message": error.message}
        reason["param"] = None  # type: ignore[assignment]
        return [
            self._session.event(
                f"{_TRANSCRIPTION}.failed", item_id=item.id, content_index=0, error=reason
            )
            for item in waiting
        ] or [self._session.error(error.message, kind="server_error", code=error.code)]

    def _all(self) -> _Item:
        if self._whole is None:
            self._whole = _Item(self._session.new_item())
        return self._whole

    def _delta(self, item: _Item, event: Transcript) -> list[Event]:
        added = item.grow(event.segment_id, event.text)
        if not added:
            return []
        fields = {"item_id": item.id, "content_index": 0, "delta": added}
        return [self._session.event(f"{_TRANSCRIPTION}.delta", **fields)]

    def _completed(self, item: _Item, seconds: float) -> Event:
        return self._session.event(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.text(),
            usage={"type": "duration", "seconds": round(seconds, 3)},
        )
