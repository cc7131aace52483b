"""Drives the capture process: starts it, reads its messages, ends it without waiting for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.audio.capture_protocol import HEADER, Message, body_size, decode
from agent.audio.source import InputDevice, SourceError, SourceState, Wish

PIPE_BYTES = 65_536
LIST_S = 20.0
"""Time that listing or probing devices may take."""
KILL_S = 2.0
"""A killed process that is stuck in its driver is left to the kernel after this time."""
_TAIL_BYTES = 4096
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Capture:
    """A capture process that runs; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._out = process.stdout
        self._said = asyncio.create_task(_tail(process.stderr), name="capture-stderr")

    @classmethod
    async def start(cls, wish: Wish, command: Sequence[str] = ()) -> Capture:
        """Open what `wish` says in a new process. Raises OSError when there can be none."""
        return cls(await _spawn("capture", wish, command, stdin=asyncio.subprocess.PIPE))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def read(self) -> Message:
        """The next message; a process that ended without a word is a SourceError of its own.

        Raises ProtocolError when what comes is no message.
        """
        try:
            header = await self._out.readexactly(HEADER.size)
            return decode(header, await self._out.readexactly(body_size(header)))
        except asyncio.IncompleteReadError:
            return SourceError(SourceState.FAILED, await self._last_words())

    async def close(self) -> None:
        """Kill it; waits `KILL_S` at most."""
        if self._process.returncode is None:
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        # asyncio ends a process only when its pipes have reached their end.
        draining = asyncio.ensure_future(self._drain())
        await asyncio.wait({draining}, timeout=KILL_S)
        draining.cancel()
        self._said.cancel()
        await asyncio.gather(draining, self._said, return_exceptions=True)

    async def _drain(self) -> None:
        while await self._out.read(PIPE_BYTES):
            pass
        await asyncio.wait({self._said})
        await self._process.wait()

    async def _last_words(self) -> str:
        ending = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({self._said, ending}, timeout=1, return_when=asyncio.ALL_COMPLETED)
        ending.cancel()
        code = self._process.returncode
        how = "is stuck" if code is None else f"ended with status {code}"
        if code is not None and code < 0:
            how = f"ended by {signal.Signals(-code).name}"
        said = self._said.result() if self._said.done() and not self._said.cancelled() else ""
        return f"the capture process {how}" + (f": {said}" if said else "")


async def list_devices(command: Sequence[str] = ()) -> list[InputDevice]:
    """What PortAudio sees now, asked in a process of its own. Raises SourceError."""
    fields = await _ask("list", Wish(), command)
    try:
        return [InputDevice(**device) for device in fields["devices"]]
    except (KeyError, TypeError) as error:
        raise SourceError(
            SourceState.FAILED, f"the list of devices is malformed: {error}"
        ) from None


async def can_open(wish: Wish, command: Sequence[str] = ()) -> bool:
    """Whether the wanted device itself opens and delivers now."""
    try:
        await _ask("probe", replace(wish, fallback=False), command)
    except SourceError:
        return False
    return True


async def _ask(what: str, wish: Wish, command: Sequence[str]) -> dict[str, Any]:
    process = await _spawn(what, wish, command, stdin=asyncio.subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.create_task(_tail(process.stderr), name="devices-stderr")
    reading = asyncio.create_task(process.stdout.read(), name="devices")
    try:
        await asyncio.wait({reading}, timeout=LIST_S)
        if not reading.done():
            raise SourceError(
                SourceState.STALLED, f"PortAudio did not answer within {LIST_S:.0f} s"
            )
        await asyncio.wait({said}, timeout=1)
        fields = json.loads(reading.result())
        if "state" in fields:
            raise SourceError(SourceState(fields["state"]), str(fields["message"]))
        return dict(fields)
    except (ValueError, TypeError):
        words = said.result() if said.done() else ""
        raise SourceError(SourceState.FAILED, f"PortAudio can't be asked: {words}") from None
    finally:
        if process.returncode is None:
            process.kill()
        ending = asyncio.ensure_future(process.wait())
        await asyncio.wait({reading, ending}, timeout=KILL_S, return_when=asyncio.ALL_COMPLETED)
        for task in (reading, said, ending):
            task.cancel()
        await asyncio.gather(reading, said, ending, return_exceptions=True)


async def _spawn(
    what: str, wish: Wish, command: Sequence[str], *, stdin: int
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(command or (sys.executable, "-m", "agent.audio.capture_process")),
        what,
        json.dumps(asdict(wish)),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=PIPE_BYTES,
        cwd=_PACKAGE_ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )


async def _tail(stream: asyncio.StreamReader) -> str:
    """The last line; the libraries below PortAudio write a lot before it."""
    tail = b""
    while data := await stream.read(PIPE_BYTES):
        tail = (tail + data)[-_TAIL_BYTES:]
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
