"""A request's body as a file that a thread reads while it comes."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import TYPE_CHECKING

from agent.errors import BundleError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BodyPipe(io.RawIOBase):
    """Fed on the loop, read in one thread; at most one piece waits in between."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._piece = memoryview(b"")
        self._ended = False
        self._unread = False
        self._failure = ""

    async def feed(self, piece: bytes) -> bool:
        """Hand over a piece when the reader has taken the one before; False when the reader has
        stopped reading."""
        return await asyncio.to_thread(self._put, piece)

    def end(self) -> None:
        """The body is whole."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self, reason: str) -> None:
        """The body will not become whole: the reader fails, if it has not come to the end."""
        with self._changed:
            if not self._ended:
                self._failure = reason
            self._changed.notify_all()

    def stop_reading(self) -> None:
        """The reader wants no more."""
        with self._changed:
            self._unread = True
            self._changed.notify_all()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Waits for bytes; 0 at the end. Raises BundleError when the sender broke off."""
        into = memoryview(buffer).cast("B")
        with self._changed:
            self._changed.wait_for(lambda: self._piece or self._ended or self._failure)
            if self._failure:
                raise BundleError(f"{self._failure}; send it again")
            size = min(len(into), len(self._piece))
            into[:size] = self._piece[:size]
            self._piece = self._piece[size:]
            self._changed.notify_all()
        return size

    def _put(self, piece: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._piece or self._unread or self._failure)
            if self._unread or self._failure:
                return False
            self._piece = memoryview(piece)
            self._changed.notify_all()
            return True
