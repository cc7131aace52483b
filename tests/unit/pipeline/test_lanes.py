"""Lanes: order, back-pressure, failures, age."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent.errors import NotReady
from agent.pipeline.lanes import Lane


@pytest_asyncio.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane("test", queue=2)
    made.start()
    yield made
    await made.close(5)


async def test_jobs_run_in_order_in_one_other_thread(lane: Lane) -> None:
    names: list[tuple[int, str]] = []

    def job(i: int) -> int:
        names.append((i, threading.current_thread().name))
        return i

    results = await asyncio.gather(*(lane.run(lambda i=i: job(i)) for i in range(10)))
    assert results == list(range(10))
    assert names == [(i, "lane-test") for i in range(10)]


async def test_an_exception_goes_to_its_caller_and_the_lane_lives(lane: Lane) -> None:
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)
    assert await lane.run(lambda: 7) == 7


async def test_a_full_queue_makes_callers_wait(lane: Lane) -> None:
    gate = threading.Event()
    tasks = [asyncio.create_task(lane.run(lambda: gate.wait(10))) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert lane.waiting == 2
    gate.set()
    assert await asyncio.gather(*tasks) == [True] * 5


async def test_a_cancelled_job_is_not_run(lane: Lane) -> None:
    gate = threading.Event()
    ran: list[int] = []
    first = asyncio.create_task(lane.run(lambda: gate.wait(10)))
    second = asyncio.create_task(lane.run(lambda: ran.append(1)))
    await asyncio.sleep(0.02)
    second.cancel()
    gate.set()
    await first
    assert await lane.run(lambda: 1) == 1
    assert ran == []


async def test_age_is_that_of_the_job_at_work(lane: Lane) -> None:
    now = [10.0]
    clocked = Lane("clocked", queue=1, clock=lambda: now[0])
    clocked.start()
    gate, begun = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        gate.wait(10)

    task = asyncio.create_task(clocked.run(job))
    await asyncio.to_thread(begun.wait, 10)
    now[0] = 15.5
    assert clocked.age_s == pytest.approx(5.5)
    gate.set()
    await task
    await clocked.close(5)
    assert clocked.age_s == 0


async def test_closing_reports_a_job_that_does_not_end() -> None:
    lane = Lane("stuck", queue=1)
    lane.start()
    gate = threading.Event()
    task = asyncio.create_task(lane.run(lambda: gate.wait(10)))
    await asyncio.sleep(0.02)
    assert await lane.close(0.05) is False
    gate.set()
    await task


async def test_a_lane_with_two_workers_runs_two_jobs_at_a_time() -> None:
    made = Lane("wide", queue=8, workers=2)
    made.start()
    barrier = threading.Barrier(2, timeout=10)
    both = await asyncio.gather(made.run(barrier.wait), made.run(barrier.wait))
    assert sorted(both) == [0, 1]
    assert await made.close(5)


async def test_jobs_that_nobody_waits_for_go_last(lane: Lane) -> None:
    wide = Lane("queue", queue=8)
    wide.start()
    gate, order = threading.Event(), list[str]()
    first = asyncio.create_task(wide.run(lambda: gate.wait(10)))
    await asyncio.sleep(0.02)
    late = asyncio.create_task(wide.run(lambda: order.append("file"), urgent=False))
    await asyncio.sleep(0)
    live = asyncio.create_task(wide.run(lambda: order.append("live")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, late, live)
    assert order == ["live", "file"]
    assert await wide.close(5)


async def test_a_closed_lane_takes_no_job() -> None:
    made = Lane("closed", queue=1)
    made.start()
    assert await made.close(5)
    with pytest.raises(NotReady, match="stopping"):
        await made.run(lambda: 1)


async def test_a_lane_that_ends_no_job_is_silent_also_when_none_is_at_work() -> None:
    now = [10.0]
    dead = Lane("dead", queue=4, clock=lambda: now[0])  # its threads never start
    now[0] = 100.0
    assert dead.silent_s == 0
    waiting = asyncio.create_task(dead.run(lambda: 1))
    await asyncio.sleep(0)
    now[0] = 107.0
    assert (dead.age_s, dead.silent_s) == (0, 7)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert dead.silent_s == 0


async def test_a_busy_lane_that_ends_jobs_is_not_silent() -> None:
    now = [10.0]
    busy = Lane("busy", queue=4, clock=lambda: now[0])
    busy.start()
    gates = [threading.Event(), threading.Event()]
    jobs = [asyncio.create_task(busy.run(lambda gate=gate: gate.wait(10))) for gate in gates]
    await asyncio.sleep(0)
    now[0] = 50.0
    gates[0].set()
    await jobs[0]
    now[0] = 53.0
    assert busy.silent_s == 3
    gates[1].set()
    await jobs[1]
    assert busy.silent_s == 0
    await busy.close(5)
