"""`/api/v1/events`: a snapshot, then everything that happens on the box."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import WSCloseCode, web

from agent.errors import Overloaded
from agent.pipeline.hub import Subscription
from agent.protocols.base import read_index
from agent.web.connection import Connection, cancel_all
from agent.web.context import WebContext

SAID_MOST = 5
"""Segments of each open session whose text a snapshot holds."""


class EventsConnection(Connection):
    """Worker of one viewer's socket; what the viewer sends is passed over."""

    def __init__(self, request: web.Request, context: WebContext) -> None:
        super().__init__(request, context)
        self._since = parse_since(request.query.get("since"))
        self._subscription: Subscription | None = None
        self._sender: asyncio.Task[None] | None = None

    async def on_open(self) -> None:
        """Subscribe first, so that nothing falls between the snapshot and the changes."""
        self._subscription = self.context.hub.subscribe(self._since)
        await self._send(
            {
                "type": "snapshot",
                "seq": self.context.hub.last_seq,
                "status": self.context.status.status(),
                "sessions": open_sessions(self.context),
            }
        )
        self._sender = asyncio.create_task(self._send_events(self._subscription))

    async def on_closed(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._subscription.close()
        if self._sender is not None:
            await cancel_all(self._sender)

    async def _send_events(self, subscription: Subscription) -> None:
        try:
            async for event in subscription:
                await self._send(event)
        except ConnectionError:
            return  # the reader sees the end of the socket
        except Overloaded as error:
            await self.close(WSCloseCode.TRY_AGAIN_LATER, error.message)

    async def _send(self, event: dict[str, Any]) -> None:
        await self.send_text(json.dumps(event, ensure_ascii=False))


def open_sessions(context: WebContext) -> list[dict[str, Any]]:
    """The sessions that are open, each with what was said in it lately."""
    said = context.hub.last_words(SAID_MOST)
    return [
        {
            "session_id": stream.session_id,
            "source": stream.source,
            "name": stream.options.wav_name,
            "opened": round(stream.opened, 3),
            "said": said.get(stream.session_id, []),
        }
        for stream in context.service.streams
    ]


def parse_since(text: str | None) -> int | None:
    """The `?since=` of a request. Raises ProtocolError."""
    if text is None:
        return None
    return read_index({"since": int(text) if text.isdecimal() else text}, "since")
