"""FunASR's protocol on a socket: streams one after the other, files when a client sends them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO

from aiohttp import WSCloseCode

from agent.errors import AgentError, ProtocolError, StreamFailed
from agent.log_context import SESSION
from agent.pipeline.service import LiveStream
from agent.protocols.funasr_ws import Audio, Begin, End, FileBytes, FunasrReader, FunasrWriter
from agent.types import StreamEvent, StreamFinished
from agent.web.connection import Connection, cancel_all, finish_and_send
from agent.web.remarks import tell_remarks
from agent.web.uploads import DECODERS, read_upload

_TOO_BIG = 1009


class FunasrConnection(Connection):
    """Worker of `/` and `/ws`."""

    _reader: FunasrReader
    _writer: FunasrWriter | None = None
    _stream: LiveStream | None = None
    _sender: asyncio.Task[None] | None = None
    _file: IO[bytes] | None = None
    _options_file: Begin | None = None

    async def on_open(self) -> None:
        """A fresh reader; the stream is opened by the first audio."""
        self._reader = FunasrReader()

    async def on_message(self, message: str | bytes) -> None:
        """A message of the client."""
        if isinstance(message, str):
            inputs = self._reader.receive_text(message)
        else:
            inputs = self._reader.receive_bytes(message)
        for item in inputs:
            if isinstance(item, Begin):
                await self._begin(item)
            elif isinstance(item, Audio):
                await self._push(item)
            elif isinstance(item, FileBytes):
                await self._collect(item.data)
            else:
                await self._end(item)

    async def on_idle(self) -> None:
        """A stream that sends nothing any more is finished: its finals, then the close, so that
        no audio can come later and get lost. A socket between two streams may wait."""
        if self._stream is None and self._file is None:
            return
        await self.on_stop()
        idle_s = self.context.config.stream.idle_s
        await self.close(WSCloseCode.GOING_AWAY, f"nothing came for {idle_s:g} s (stream.idle_s)")

    async def on_stop(self) -> None:
        """Finish the stream that is open and wait for its finals to be sent."""
        await finish_and_send(self._stream, self._sender)

    async def on_closed(self) -> None:
        """Drop the stream and the file."""
        await self._drop_stream()
        self._drop_file()

    async def refuse(self, error: AgentError) -> None:
        """Tell a waiting client before the socket closes."""
        writer = self._writer or FunasrWriter(self._reader.options.mode, "")
        for text in writer.fail(error.message):
            await self.send_text(text)

    async def _begin(self, begin: Begin) -> None:
        await self._drop_stream()
        options = begin.options
        self._writer = FunasrWriter(options.mode, options.wav_name)
        if begin.is_container:
            self._options_file = begin
            self._file = await asyncio.to_thread(tempfile.NamedTemporaryFile)
            return
        self._stream = await self.context.service.open(options, source="funasr")
        SESSION.set(self._stream.session_id)
        self._writer.mode = self._stream.mode
        await tell_remarks(self.context, self._stream.session_id, options, self._stream.mode)
        self._sender = asyncio.create_task(self._send_events(self._stream), name="funasr-sender")

    async def _push(self, audio: Audio) -> None:
        if self._stream is None:
            return
        try:
            await self._stream.push(audio.samples)
        except StreamFailed:
            self._stream = None  # the sender has told the client; later audio has nowhere to go

    async def _collect(self, data: bytes) -> None:
        if self._file is None:
            return
        limit_mb = self.context.config.uploads.max_mb
        if self._file.tell() + len(data) > limit_mb * 2**20:
            raise ProtocolError(
                f"the file is larger than {limit_mb} MB (uploads.max_mb)", close_code=_TOO_BIG
            )
        await asyncio.to_thread(self._file.write, data)

    async def _end(self, end: End) -> None:
        """End of input: all messages of this stream are out before the next one begins."""
        assert self._writer is not None
        for text in self._writer.end_input(
            acknowledge=self._reader.wants_acknowledgement, stray_bytes=end.stray_bytes
        ):
            await self.send_text(text)
        if self._file is not None:
            await self._read_file()
        elif self._stream is not None:
            await self._stream.finish()
        if self._sender is not None:
            await self._sender
        self._stream = self._sender = None

    async def _send_events(self, stream: LiveStream) -> None:
        writer = self._writer
        assert writer is not None
        async for event in stream:
            for text in writer.send(event):
                await self.send_text(text)

    async def _read_file(self) -> None:
        """Decode the collected file; its finals go out like those of a stream."""
        file, begin, writer = self._file, self._options_file, self._writer
        assert file is not None
        assert begin is not None
        assert writer is not None
        await asyncio.to_thread(file.flush)
        try:
            async with self._request.app[DECODERS]:
                read = await read_upload(
                    self.context, Path(file.name), begin.options, begin.options.wav_name
                )
        except AgentError as error:
            texts = writer.fail(error.message)
        else:
            writer.warn(read.warning)
            finished = StreamFinished("", round(read.duration_s * 1000))
            events: list[StreamEvent] = [*read.segments, finished]
            texts = [text for event in events for text in writer.send(event)]
        finally:
            self._drop_file()
        for text in texts:
            await self.send_text(text)

    async def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
        sender, self._sender = self._sender, None
        if sender is not None:
            await cancel_all(sender)

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
