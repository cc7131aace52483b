"""Letting go of a socket's tasks."""

from __future__ import annotations

import asyncio

from agent.web.connection import cancel_all


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_all(*tasks), 20)
    assert lost == 1
    assert all(task.cancelled() for task in tasks)


async def test_tasks_that_have_ended_are_left_alone() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await asyncio.wait_for(cancel_all(done), 5)
    assert not done.cancelled()
