"""A TCP proxy that cuts connections in the middle of a message, with bytes in flight."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType

READ_BYTES = 65536


class CuttingProxy:
    """Forwards to `port` of this machine; `cut()` breaks what carries the path marked.

    Only connections whose request names `path` are cut: the page's other requests pass.
    """

    def __init__(self, port: int, path: bytes = b"/api/v1/stream", seed: int = 1) -> None:
        self._target = port
        self._path = path
        self._random = random.Random(seed)
        self._marked: set[_Link] = set()
        self._links: set[_Link] = set()
        self.cuts = 0
        self.cut_bytes: list[tuple[int, int]] = []
        """For each cut: bytes of the last read that were passed on, and that were lost."""

    @property
    def live(self) -> int:
        """Connections on the marked path now."""
        return len(self._marked)

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for link in list(self._links):
            link.abort()

    def cut(self) -> None:
        """The next bytes on a marked connection, whichever way they go, are passed on in part."""
        for link in self._marked:
            link.doomed = True

    def stall(self) -> None:
        """Marked connections stay open, but nothing gets through any more."""
        for link in self._marked:
            link.stalled = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._carry(link, reader, far_writer, asks=True),
                self._carry(link, far_reader, writer, asks=False),
            )
        finally:
            link.abort()
            self._links.discard(link)
            self._marked.discard(link)

    async def _carry(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        first = True
        try:
            while data := await reader.read(READ_BYTES):
                if asks and first and self._path in data.split(b"\r\n", 1)[0]:
                    self._marked.add(link)
                first = False
                if link.doomed:
                    await self._break(link, data, writer)
                    return
                if not link.stalled:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError as error:
            link.ended_by = error
        link.abort()

    async def _break(self, link: _Link, data: bytes, writer: asyncio.StreamWriter) -> None:
        passed = self._random.randrange(len(data))
        writer.write(data[:passed])
        await writer.drain()
        self.cuts += 1
        self.cut_bytes.append((passed, len(data) - passed))
        link.abort()


class _Link:
    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.doomed = False
        self.stalled = False
        self.ended_by: ConnectionError | None = None

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
