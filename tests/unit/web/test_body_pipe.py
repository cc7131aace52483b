"""The pipe between a request's body and the thread that installs it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent.errors import BundleError
from agent.web.body_pipe import BodyPipe

A_MOMENT_S = 0.05


@pytest_asyncio.fixture
async def pipe() -> AsyncIterator[BodyPipe]:
    """A pipe; when the test has ended, no thread may still wait on it."""
    yield BodyPipe()
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 5)


async def is_waiting(task: asyncio.Task[bool]) -> bool:
    await asyncio.wait({task}, timeout=A_MOMENT_S)
    return not task.done()


def feeding(pipe: BodyPipe, piece: bytes) -> asyncio.Task[bool]:
    return asyncio.create_task(pipe.feed(piece))


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_is_fed_is_read_to_the_end(pipe: BodyPipe, size: int) -> None:
    body = bytes(range(256)) * 2
    reading = asyncio.create_task(asyncio.to_thread(io.BufferedReader(pipe, 100).read))
    for first in range(0, len(body), size):
        assert await pipe.feed(body[first : first + size])
    pipe.end()
    assert await reading == body


async def test_a_reader_gets_what_is_there_without_waiting_for_more(pipe: BodyPipe) -> None:
    await pipe.feed(b"first")
    assert await asyncio.to_thread(pipe.read, 1000) == b"first"


async def test_a_second_piece_waits_until_the_first_is_read_to_its_last_byte(
    pipe: BodyPipe,
) -> None:
    assert await pipe.feed(b"first")
    second = feeding(pipe, b"second")
    assert await is_waiting(second)
    assert pipe.read(4) == b"firs"
    assert await is_waiting(second)
    assert pipe.read(4) == b"t"
    assert await second
    assert pipe.read(100) == b"second"


async def test_a_sender_that_breaks_off_fails_the_reader_that_waits(pipe: BodyPipe) -> None:
    reading = asyncio.create_task(asyncio.to_thread(pipe.read, 10))
    await asyncio.sleep(A_MOMENT_S)
    pipe.break_off("the upload ended before the bundle was whole")
    with pytest.raises(BundleError, match=r"before the bundle was whole; send it again"):
        await reading


async def test_a_broken_body_never_looks_like_a_whole_one(pipe: BodyPipe) -> None:
    await pipe.feed(b"half of it")
    pipe.break_off("the upload ended")
    with pytest.raises(BundleError):
        io.BufferedReader(pipe).read()
    with pytest.raises(BundleError):
        pipe.read(1)


async def test_breaking_off_after_the_end_changes_nothing(pipe: BodyPipe) -> None:
    await pipe.feed(b"all of it")
    pipe.end()
    pipe.break_off("too late")
    assert io.BufferedReader(pipe).read() == b"all of it"
    assert pipe.read(1) == b""


@pytest.mark.parametrize("how", ["the reader stops", "the sender breaks off"])
async def test_a_waiting_feeder_is_freed_and_told(pipe: BodyPipe, how: str) -> None:
    await pipe.feed(b"first")
    second = feeding(pipe, b"second")
    assert await is_waiting(second)
    if how == "the reader stops":
        pipe.stop_reading()
    else:
        pipe.break_off("gone")
    assert await asyncio.wait_for(second, 5) is False
    assert await pipe.feed(b"third") is False


async def test_a_feeder_that_is_cancelled_leaves_no_thread_behind(pipe: BodyPipe) -> None:
    """The fixture joins the threads."""
    await pipe.feed(b"first")
    second = feeding(pipe, b"second")
    assert await is_waiting(second)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    pipe.break_off("the request was cancelled")


async def test_an_empty_piece_is_no_end(pipe: BodyPipe) -> None:
    reading = asyncio.create_task(asyncio.to_thread(pipe.read, 10))
    await pipe.feed(b"")
    await pipe.feed(b"more")
    assert await reading == b"more"
    pipe.end()
