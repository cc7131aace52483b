"""Inference lanes: threads for blocking work, a bounded queue, and the age of the oldest job."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from agent.engine.together import Together
from agent.errors import NotReady
from agent.pipeline.batching import Crew, CrewTotals, Ran

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Lane:
    """Runs jobs in threads of its own, begun in order, at most `workers` at a time.

    `run` waits while the queue is full, which slows the caller down and through it the sender.
    A job's exception goes to its caller; the lane lives on.
    """

    def __init__(
        self,
        name: str,
        queue: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        workers: int = 1,
        batch: int = 1,
        nice: int = 0,
    ) -> None:
        """`batch`: how many jobs may share a run (`together`). `nice`: how far its threads give way
        to others of the machine."""
        self.name = name
        self._crew = Crew(name, workers, batch, clock, nice)
        self._slots = asyncio.Semaphore(queue)
        self._waiting = 0
        self._clock = clock
        self._moved_at = clock()
        self._started = self._closed = False

    def start(self) -> None:
        """Start the threads. Call once, on the loop's thread."""
        self._started = True
        self._crew.start()

    @property
    def workers(self) -> int:
        """Jobs at work at a time."""
        return self._crew.cores

    @property
    def batch(self) -> int:
        """Jobs that may share a run."""
        return self._crew.batch

    @property
    def waiting(self) -> int:
        """Jobs accepted and not finished."""
        return self._waiting

    @property
    def age_s(self) -> float:
        """Seconds that the oldest job at work has been running; 0 when idle."""
        return self._crew.age_s

    @property
    def silent_s(self) -> float:
        """Seconds without an answer: the age of the oldest job at work, or the time since a job
        ended while others wait. Used on the loop."""
        stalled = self._clock() - self._moved_at if self._waiting else 0.0
        return max(self.age_s, stalled)

    @property
    def totals(self) -> CrewTotals:
        """The work done so far."""
        return self._crew.totals

    async def run(self, job: Callable[[], T], *, urgent: bool = True) -> T:
        """The result of `job`, or its exception. Urgent jobs are begun before the others."""
        async with self._slots:
            if self._closed:
                raise NotReady(f"the {self.name} lane has ended: the agent is stopping")
            loop = asyncio.get_running_loop()
            future: asyncio.Future[T] = loop.create_future()
            if not self._waiting:
                self._moved_at = self._clock()
            self._waiting += 1
            try:
                self._crew.submit(_Job(job, future, loop).execute, urgent=urgent)
                return await future
            finally:
                self._waiting -= 1
                self._moved_at = self._clock()

    @property
    def together(self) -> Together:
        """For jobs: a run that they share with other jobs of this lane."""
        return self._crew.together

    @property
    def apart(self) -> Together:
        """For jobs: a run that they do not share, measured in the same way."""
        return self._crew.apart

    def tell(self, ran: Ran) -> None:
        """Call `ran` after each such run, from the lane's threads."""
        self._crew.ran = ran

    def work_time(self) -> float:
        """For jobs: a clock of their own work in seconds (see `Crew.work_time`)."""
        return self._crew.work_time()

    def own_time(self) -> float:
        """For jobs: the same without runs that can be shared."""
        return self._crew.own_time()

    async def close(self, timeout_s: float) -> bool:
        """Let the queued jobs finish and end the threads; False when they did not in time."""
        self._closed = True
        if not self._started:
            return True
        self._crew.close()
        join = self._crew.join
        if not await asyncio.get_running_loop().run_in_executor(None, join, timeout_s):
            _log.error("lane %s still runs a job after %.1f s", self.name, timeout_s)
            return False
        return True


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job:
    """A callable, and where its result goes."""

    def __init__(
        self,
        call: Callable[[], Any],
        future: asyncio.Future[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._call = call
        self._context = contextvars.copy_context()
        self._future = future
        self._loop = loop

    def execute(self) -> None:
        if self._future.cancelled():
            return
        try:
            result, error = self._context.run(self._call), None
        except Exception as raised:  # noqa: BLE001 - a job's failure belongs to its caller
            result, error = None, raised
        try:
            self._loop.call_soon_threadsafe(self._deliver, result, error)
        except RuntimeError:
            _log.warning("a result came after the event loop had closed")

    def _deliver(self, result: Any, error: Exception | None) -> None:
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
