"""Carries out the supervisor's orders: opens, reads, closes and looks for the wanted device."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.audio.capture_protocol import Audio, Message, Opened
from agent.audio.source import SourceState, Wish
from agent.audio.supervisor import Order, Supervisor
from agent.errors import ProtocolError

_log = logging.getLogger(__name__)


class Recording(Protocol):
    """A capture that runs."""

    async def read(self) -> Message:
        """The next message. Raises ProtocolError."""

    async def close(self) -> None:
        """End it, within a bound."""


Record = Callable[[Wish], Awaitable[Recording]]
"""Starts a capture. Raises OSError."""
Probe = Callable[[Wish], Awaitable[bool]]
"""Whether the wanted device itself can be opened."""


class Recorder:
    """One capture at a time, and what it says told to the supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        wish: Wish,
        take: Callable[[Audio], None],
        record: Record,
        probe: Probe,
    ) -> None:
        """`take` gets the audio, after the supervisor was told of it."""
        self.wish = wish
        """What the next capture is to open."""
        self._supervisor = supervisor
        self._take = take
        self._record, self._probe = record, probe
        self._capture: Recording | None = None
        self._reader: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None

    async def obey(self, order: Order) -> None:
        """Do it; takes a few seconds at most, whatever the device does."""
        if order is Order.OPEN:
            await self._open()
        elif order is Order.CLOSE:
            await self.close()
        elif order is Order.PROBE and self.wish.device and self._prober is None:
            self._prober = asyncio.create_task(self._look_for_wanted(), name="microphone-probe")

    def check(self) -> None:
        """Tell the supervisor of a reader that has failed. Raises what nobody foresaw."""
        if self._reader is None or not self._reader.done():
            return
        reader, self._reader = self._reader, None
        error = None if reader.cancelled() else reader.exception()
        if isinstance(error, ProtocolError):
            self._supervisor.lost(SourceState.FAILED, error.message)
        elif error is not None:
            raise error

    async def close(self) -> None:
        """End the capture; idempotent."""
        capture, self._capture = self._capture, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if capture is not None:
            await capture.close()

    async def stop(self) -> None:
        """End everything."""
        await self.close()
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)

    async def _open(self) -> None:
        try:
            self._capture = await self._record(self.wish)
        except OSError as error:
            self._supervisor.lost(SourceState.FAILED, f"no capture process: {error}")
            return
        self._reader = asyncio.create_task(self._listen(self._capture), name="microphone-reader")

    async def _listen(self, capture: Recording) -> None:
        while True:
            message = await capture.read()
            if isinstance(message, Opened):
                self._supervisor.opened(message)
            elif isinstance(message, Audio):
                self._supervisor.audio()
                self._take(message)
            else:
                self._supervisor.lost(message.state, message.message)
                return

    async def _look_for_wanted(self) -> None:
        try:
            if await self._probe(self.wish):
                self._supervisor.preferred_is_back()
        except OSError as error:
            _log.info("the wanted microphone can't be looked for: %s", error)
        finally:
            self._prober = None
