"""Inference lanes: one thread each, a bounded queue, and the age of the job at work."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import Any, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Lane:
    """Runs jobs one after the other in its own thread.

    `run` waits while the queue is full, which slows the caller down and through it the sender.
    A job's exception goes to its caller; the lane lives on.
    """

    def __init__(self, name: str, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._slots = asyncio.Semaphore(queue)
        self._size = queue
        self._jobs: Queue[_Job | None] = Queue()
        self._waiting = 0
        self._started_at: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Call once, on the loop's thread."""
        self._thread = threading.Thread(target=self._work, name=f"lane-{self.name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs accepted and not finished."""
        return self._waiting

    @property
    def age_s(self) -> float:
        """Seconds that the job at work has been running; 0 when idle."""
        started_at = self._started_at
        return 0.0 if started_at is None else self._clock() - started_at

    async def run(self, job: Callable[[], T]) -> T:
        """The result of `job`, or its exception."""
        async with self._slots:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[T] = loop.create_future()
            self._waiting += 1
            try:
                self._jobs.put(_Job(job, future, loop))
                return await future
            finally:
                self._waiting -= 1

    async def close(self, timeout_s: float) -> bool:
        """Let the queued jobs finish and end the thread; False when it did not within the time."""
        if self._thread is None:
            return True
        self._jobs.put(None)
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(None, thread.join, timeout_s)
        if thread.is_alive():
            _log.error("lane %s still runs a job after %.1f s", self.name, timeout_s)
            return False
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._started_at = self._clock()
            try:
                job.execute()
            finally:
                self._started_at = None


class _Job:
    """A callable, and where its result goes."""

    def __init__(
        self,
        call: Callable[[], Any],
        future: asyncio.Future[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._call = call
        self._future = future
        self._loop = loop

    def execute(self) -> None:
        if self._future.cancelled():
            return
        try:
            result, error = self._call(), None
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
