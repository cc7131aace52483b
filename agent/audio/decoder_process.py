"""Decodes an uploaded file in a child process: media parsers meet hostile files.

`python -m agent.audio.decoder_process FILE [NAME]` writes s16le 16 kHz mono to stdout; an
error is one JSON line {"code", "message"} on stderr with exit status 1. `decode_in_child` drives
it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
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

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_SAMPLE_BYTES = 2
_LAST_WORDS_S = 5
"""Between the signal that can be told apart and the one that can't be refused."""


async def decode_in_child(
    path: Path, *, name: str = "", command: Sequence[str] | None = None
) -> AsyncGenerator[Int16, None]:
    """Blocks of 16 kHz mono from a file, decoded in a child process.

    `name` stands for the file in messages (an upload's own name); none: its path.
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
    said = asyncio.create_task(_read_tail(child.stderr))
    try:
        odd = b""
        while data := await child.stdout.read(PIPE_BYTES):
            data = odd + data
            whole = len(data) - len(data) % _SAMPLE_BYTES
            odd = data[whole:]
            if whole:
                yield np.frombuffer(data[:whole], "<i2").astype(np.int16, copy=False)
        status = await child.wait()
        failure = _failure(shown, status, await said)
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
    from agent.audio.media import MediaReader, open_media_file

    if len(arguments) not in (1, 2):
        _complain("usage", "name one file, and after it how messages shall call it")
        return 2
    shown = Path(arguments[-1])
    try:
        fd = open_media_file(Path(arguments[0]), shown)
        _confine(fd)
        with MediaReader(shown, fd=fd) as reader:
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
    sys.stderr.write(json.dumps({"code": code, "message": message}) + "\n")


def _flush_quietly() -> None:
    """Hand out what was decoded; a reader that has gone doesn't need it."""
    try:
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _absolute(path: Path) -> str:
    """The child has a working folder of its own."""
    return os.path.abspath(path)


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    """The end of the stream; codecs may write warnings without end before it."""
    tail = b""
    while data := await stream.read(MAX_STDERR_BYTES):
        tail = (tail + data)[-MAX_STDERR_BYTES:]
    return tail


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
