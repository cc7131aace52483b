"""Decodes an uploaded file in a child process: media parsers meet hostile files.

`python -m agent.audio.decoder_process FILE [NAME]` writes s16le 16 kHz mono to stdout. On stderr
are JSON lines: {"duration_s"} where the file states it, and for an error {"code", "message"} with
exit status 1. `decode_in_child` drives it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import MediaError
from agent.types import Int16

CPU_LIMIT_S = 900
"""Processor time of one file: four hours of mp3 take about five minutes on a slow board."""
ADDRESS_SPACE_BYTES = 2 << 30
"""libsndfile itself needs a few megabytes; the rest is what Python and numpy map."""
PIPE_BYTES = 65_536
MAX_STDERR_BYTES = 16_384
MAX_NAME = 255
STALL_S = 120.0
"""A child that gives nothing for so long, while it is asked, is ended."""

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_SAMPLE_BYTES = 2
_DURATION = b'{"duration_s": '
_LAST_WORDS_S = 5
"""Between the signal that can be told apart and the one that can't be refused."""


async def decode_in_child(
    path: Path,
    *,
    name: str = "",
    command: Sequence[str] | None = None,
    on_duration: Callable[[float], None] | None = None,
    stall_s: float = STALL_S,
) -> AsyncGenerator[Int16, None]:
    """Blocks of 16 kHz mono from a file, decoded in a child process.

    `name` stands for the file in messages (an upload's own name); none: its path. `on_duration`
    gets the length in seconds that the file states, if it does.
    At most a few `PIPE_BYTES` wait here: a slow consumer slows the child. Raises MediaError after
    the last block that could be read. Close the iterator (`contextlib.aclosing`) when leaving
    it early: that kills the child.
    """
    shown = (name or str(path)).replace("\0", "")[:MAX_NAME]
    child = await asyncio.create_subprocess_exec(
        *(command or (sys.executable, "-m", "agent.audio.decoder_process")),
        _absolute(path),
        shown,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=PIPE_BYTES,
        cwd=_PACKAGE_ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    said = asyncio.create_task(_read_tail(child.stderr, on_duration))
    patience = _Patience(child, stall_s)
    try:
        odd = b""
        while data := await patience.read(child.stdout):
            data = odd + data
            whole = len(data) - len(data) % _SAMPLE_BYTES
            odd = data[whole:]
            if whole:
                yield np.frombuffer(data[:whole], "<i2").astype(np.int16, copy=False)
        status = await child.wait()
        failure = patience.failure(shown) or _failure(shown, status, await said)
        if failure is not None:
            raise failure
    finally:
        if child.returncode is None:
            child.kill()
        # Also after a kill: asyncio ends a process only when its pipes have reached their end.
        while await child.stdout.read(PIPE_BYTES):
            pass
        await said
        await child.wait()


def main(arguments: Sequence[str]) -> int:
    """Body of the child; returns its exit status."""
    from agent.audio.containers import load_library, open_media
    from agent.audio.media import open_media_file

    if len(arguments) not in (1, 2):
        _complain("usage", "name one file, and after it how messages shall call it")
        return 2
    shown = Path(arguments[-1])
    try:
        fd = open_media_file(Path(arguments[0]), shown)
        load_library(fd)
        _confine(fd)
        with open_media(shown, fd) as reader:
            if reader.duration_s is not None:
                _tell({"duration_s": reader.duration_s})
            for block in reader.blocks():
                sys.stdout.buffer.write(block.astype("<i2", copy=False).tobytes())
        sys.stdout.buffer.flush()
    except MediaError as error:
        _flush_quietly()
        _complain(error.code, error.message)
        return 1
    except MemoryError:
        _complain("undecodable", f"{shown}: needs more memory than a file may take")
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _confine(fd: int) -> None:
    """Bound processor time and memory; no core file, no further descriptors.

    A file can only be created through a new descriptor, so none can be.
    """
    _lower(resource.RLIMIT_CPU, CPU_LIMIT_S, CPU_LIMIT_S + _LAST_WORDS_S)
    _lower(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, fd + 1)


def _lower(limit: int, soft: int, hard: int | None = None) -> None:
    wanted = soft if hard is None else hard
    _, given = resource.getrlimit(limit)
    hard = wanted if given == resource.RLIM_INFINITY else min(wanted, given)
    resource.setrlimit(limit, (min(soft, hard), hard))


def _complain(code: str, message: str) -> None:
    _tell({"code": code, "message": message})


def _tell(report: dict[str, Any]) -> None:
    sys.stderr.write(json.dumps(report) + "\n")
    sys.stderr.flush()


def _flush_quietly() -> None:
    """Hand out what was decoded; a reader that has gone doesn't need it."""
    try:
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _absolute(path: Path) -> str:
    """The child has a working folder of its own."""
    return os.path.abspath(path)


class _Patience:
    """Reads from a child, and kills one that gives nothing."""

    def __init__(self, child: asyncio.subprocess.Process, stall_s: float) -> None:
        self._child = child
        self._stall_s = stall_s
        self._lost = False

    async def read(self, stream: asyncio.StreamReader) -> bytes:
        """The next bytes; none at the end."""
        # Not asyncio.wait_for: before Python 3.12 it can swallow the cancellation of its caller.
        timer = asyncio.get_running_loop().call_later(self._stall_s, self._lose)
        try:
            return await stream.read(PIPE_BYTES)
        finally:
            timer.cancel()

    def failure(self, name: str) -> MediaError | None:
        """The error of a child that was killed here."""
        if not self._lost:
            return None
        return MediaError(f"{name}: the decoder gave nothing for {self._stall_s:g} s and was ended")

    def _lose(self) -> None:
        self._lost = True
        if self._child.returncode is None:
            self._child.kill()


async def _read_tail(
    stream: asyncio.StreamReader, on_duration: Callable[[float], None] | None
) -> bytes:
    """The end of the stream; codecs may write warnings without end before it."""
    tail = b""
    while data := await stream.read(MAX_STDERR_BYTES):
        tail = (tail + data)[-MAX_STDERR_BYTES:]
        if on_duration is not None and (duration_s := _stated(tail)) is not None:
            on_duration(duration_s)
            on_duration = None
    return tail


def _stated(said: bytes) -> float | None:
    """The duration that a whole line of the child states."""
    at = said.find(_DURATION)
    end = said.find(b"\n", at)
    if at < 0 or end < 0:
        return None
    try:
        return float(json.loads(said[at:end])["duration_s"])
    except (ValueError, TypeError):
        return None


def _failure(name: str, status: int, said: bytes) -> MediaError | None:
    if status == 0:
        return None
    for line in reversed(said.splitlines()):
        report = _report(line)
        if report is not None:
            return MediaError(str(report["message"]), code=str(report["code"]))
    if status == -signal.SIGXCPU:
        return MediaError(f"{name}: takes more than {CPU_LIMIT_S} s of processor time to decode")
    how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
    return MediaError(f"{name}: the decoder ended {how}; the file is damaged or hostile")


def _report(line: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and {"code", "message"} <= set(report) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
