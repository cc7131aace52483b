"""The event hub: what happens on the box, numbered, for every viewer of `/api/v1/events`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from agent.errors import Overloaded

HubEvent = dict[str, Any]


class Hub:
    """Numbers events, keeps the last ones, hands them to subscriptions. Used on the loop only."""

    def __init__(
        self,
        history: int,
        client_queue: int,
        max_subscriptions: int = 64,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.last_seq = 0
        self._kept: deque[HubEvent] = deque(maxlen=history)
        self._client_queue = client_queue
        self._max_subscriptions = max_subscriptions
        self._clock = clock
        self._subscriptions: set[Subscription] = set()

    @property
    def subscriptions(self) -> int:
        """Viewers connected now."""
        return len(self._subscriptions)

    def publish(self, kind: str, data: dict[str, Any], *, passing: bool = False) -> None:
        """Number an event and hand it to everyone.

        A `passing` one counts only now: it is not kept, and takes the place of an older passing
        one of its kind that still waits for a viewer.
        """
        self.last_seq += 1
        event = {**data, "seq": self.last_seq, "type": kind, "time": round(self._clock(), 3)}
        if not passing:
            self._kept.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event, passing=passing)

    def last_words(self, most: int) -> dict[str, list[HubEvent]]:
        """What was said in each session lately: the last event of each of its last segments."""
        said: dict[str, dict[int, HubEvent]] = {}
        for event in self._kept:
            if event["type"] in ("partial", "final"):
                said.setdefault(event["session_id"], {})[event["segment_id"]] = event
        return {session: list(events.values())[-most:] for session, events in said.items()}

    def forget_words(self, session_id: str = "") -> None:
        """Keep no text any more for those who come back; of one session, or of all."""
        kept = [
            event
            for event in self._kept
            if event["type"] not in ("partial", "final", "command")
            or session_id not in ("", event.get("session_id"))
        ]
        self._kept.clear()
        self._kept.extend(kept)

    def subscribe(self, since: int | None = None) -> Subscription:
        """Events from now on, after those kept with a seq above `since`.

        Raises Overloaded when there are too many viewers.
        """
        if len(self._subscriptions) >= self._max_subscriptions:
            raise Overloaded(f"{self._max_subscriptions} viewers are connected already")
        subscription = Subscription(self._client_queue, self._subscriptions.discard)
        if since is not None:
            for event in self._kept:
                if event["seq"] > since:
                    subscription.offer(event)
        self._subscriptions.add(subscription)
        return subscription


class Subscription:
    """Events of one viewer, in order. Waiting partials give way to newer ones of their segment;
    a viewer that falls further behind is cut off: iteration raises Overloaded."""

    def __init__(self, bound: int, on_close: Callable[[Subscription], None]) -> None:
        self._bound = bound
        self._on_close = on_close
        self._events: deque[HubEvent] = deque()
        self._passing: dict[str, HubEvent] = {}
        """Of each kind, the passing event that was offered last."""
        self._wake = asyncio.Event()
        self._overflowed = False
        self._closed = False

    def offer(self, event: HubEvent, *, passing: bool = False) -> None:
        """Add an event; called by the hub."""
        if self._overflowed or self._closed:
            return
        if passing:
            self._drop_older_passing(event)
        if event["type"] == "partial":
            self._drop_older_partial(event)
        if len(self._events) >= self._bound:
            self._overflowed = True
        else:
            self._events.append(event)
        self._wake.set()

    def close(self) -> None:
        """End the iteration; idempotent."""
        self._closed = True
        self._on_close(self)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[HubEvent]:
        try:
            while True:
                while self._events:
                    yield self._events.popleft()
                if self._overflowed:
                    raise Overloaded(f"more than {self._bound} events were waiting for this viewer")
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
        finally:
            self.close()

    def _drop_older_passing(self, event: HubEvent) -> None:
        older = self._passing.get(event["type"])
        self._passing[event["type"]] = event
        for i, other in enumerate(self._events):
            if other is older:
                del self._events[i]
                return

    def _drop_older_partial(self, event: HubEvent) -> None:
        key = (event.get("session_id"), event.get("segment_id"))
        for i, other in enumerate(self._events):
            if (
                other["type"] == "partial"
                and (other.get("session_id"), other.get("segment_id")) == key
            ):
                del self._events[i]
                return
