"""Runs the program of a hook: no shell, JSON on its standard input, a time, and its whole process
group ended behind that."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.ops.hook_failed import HookFailed

_log = logging.getLogger(__name__)

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
TOLD_BYTES = 2000
"""Of what the program wrote to standard error, the end that goes to the log."""
LAST_WORDS_S = 1.0
"""Time for the end of that behind the program's own end."""
_BLOCK = 4096
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "FUNASR_AGENT__")
"""Beginnings of variables that are the service's own."""


async def run_program(argv: Sequence[str], data: bytes, timeout_s: float, folder: Path) -> None:
    """Run it in `folder` until it ends. Raises HookFailed: it can't be started, ends with
    another status than 0, or takes longer than `timeout_s`."""
    async with _log_of(argv[0]) as log:
        process = await _start(argv, folder, log)
        try:
            status = await asyncio.wait_for(_finish(process, data), timeout_s)
        except asyncio.TimeoutError:
            raise HookFailed(f"{argv[0]} was ended: it took longer than {timeout_s:g} s") from None
        finally:
            await _end(process)
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise HookFailed(f"{argv[0]} ended with {how}")


async def _start(argv: Sequence[str], folder: Path, log: int) -> Process:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=log,
            cwd=folder,
            env=inherited,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HookFailed(f"{argv[0]} can't be started: {reason}") from None
    finally:
        os.close(log)


async def _finish(process: Process, data: bytes) -> int:
    assert process.stdin is not None
    # A program need not read what it is told.
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()
    return await process.wait()


async def _end(process: Process) -> None:
    """End the process with all of its group, where it has not ended by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)


@asynccontextmanager
async def _log_of(program: str) -> AsyncIterator[int]:
    """A file to write to, whose end goes to the log at DEBUG: it may hold what was said. Whoever
    is given it closes it; a child of the program that keeps it open holds nothing up."""
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    tail = bytearray()

    async def listen() -> None:
        while block := await reader.read(_BLOCK):
            tail.extend(block)
            del tail[:-TOLD_BYTES]

    listening = asyncio.create_task(listen(), name="hook-stderr")
    try:
        yield write_end
    finally:
        await asyncio.wait({listening}, timeout=LAST_WORDS_S)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        transport.close()
        if said := tail.decode(errors="replace").strip():
            _log.debug("%s says: %s", program, said)
