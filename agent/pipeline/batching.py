"""A crew: threads that take turns on a few cores and run together what is alike.

A job that needs a shared run hands it over and lets go of its core until it has the result. New
jobs go first, so that runs that are due together meet; when nothing else can go on, or enough
runs wait, the oldest of them is done with all that are alike. One job alone never waits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

Job = Callable[[], None]
"""Work of a crew; it raises nothing."""
Ran = Callable[[str, int, float], None]
"""Told of each run that was handed over: its kind, how many shared it, seconds."""


def _tell_nobody(kind: str, items: int, seconds: float) -> None:
    """A `Ran`."""


@dataclass(frozen=True)
class CrewTotals:
    """What a crew has done since its start."""

    busy_s: float = 0.0
    """Core-seconds of work."""
    shared_s: float = 0.0
    """Of them in runs that were handed over to be shared."""
    runs: int = 0
    """Such runs, each counted once however many shared it."""
    items: int = 0
    """Items of all those runs."""


class Crew:
    """Runs jobs in threads of its own, at most `cores` at a time."""

    def __init__(
        self,
        name: str,
        cores: int = 1,
        batch: int = 1,
        clock: Callable[[], float] = time.monotonic,
        nice: int = 0,
    ) -> None:
        """`batch` items share a run at most. `nice` makes the threads give way to others."""
        self.batch = batch
        self.cores = cores
        self.ran: Ran = _tell_nobody
        """Called from the crew's threads."""
        self._clock = clock
        self._nice = nice
        self._lock = threading.Lock()
        self._free = cores
        self._urgent: deque[Job] = deque()
        self._later: deque[Job] = deque()
        self._ready: deque[_Worker] = deque()
        self._waiting: list[_Request] = []
        self._closing = False
        self._taken = 0
        self._totals = CrewTotals()
        self._here = threading.local()
        # While a batch is at work on each core, as many jobs again can be brought to their runs.
        count = cores * (batch + 1) if batch > 1 else cores
        self._workers = [
            _Worker(f"lane-{name}" if count == 1 else f"lane-{name}-{i}") for i in range(count)
        ]
        self._idle = list(reversed(self._workers))

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.thread = threading.Thread(
                target=self._work, args=(worker,), name=worker.name, daemon=True
            )
            worker.thread.start()

    @property
    def totals(self) -> CrewTotals:
        """What has been done so far; jobs at work are not in it."""
        with self._lock:
            return self._totals

    @property
    def age_s(self) -> float:
        """Seconds since the oldest job that has not ended was begun; 0 when there is none."""
        begun = [at for worker in self._workers if (at := worker.begun_at) is not None]
        return max(0.0, self._clock() - min(begun)) if begun else 0.0

    def submit(self, job: Job, *, urgent: bool = True) -> None:
        """Queue a job behind the others of its kind; urgent ones go first."""
        with self._lock:
            (self._urgent if urgent else self._later).append(job)
            self._dispatch()

    def together(
        self, key: tuple[Any, ...], run: Callable[[Sequence[Any]], Sequence[Any]], item: Any
    ) -> Any:
        """The result of `item`, whose run may be shared with other items of the same key.

        A `run` that fails for several items is done again for each alone, so that the failure
        reaches the job that brought it. In a thread that is not of this crew: `run` alone.
        """
        worker: _Worker | None = getattr(self._here, "worker", None)
        if worker is None or self.batch == 1:
            return self.apart(key, run, item)
        request = _Request(key, run, item, worker)
        paused = self._pause(worker)
        with self._lock:
            self._waiting.append(request)
            self._free += 1
            self._dispatch()
        worker.wait()
        worker.away_s += self._resume(worker) - paused
        if worker.duty:
            self._run_shared(worker)
        worker.shared_s += request.cost_s
        if request.error is not None:
            raise request.error
        return request.result

    def apart(
        self, key: tuple[Any, ...], run: Callable[[Sequence[Any]], Sequence[Any]], item: Any
    ) -> Any:
        """As `together`, and never shared."""
        started = time.perf_counter()
        try:
            return run([item])[0]
        finally:
            seconds = time.perf_counter() - started
            worker: _Worker | None = getattr(self._here, "worker", None)
            if worker is not None:
                worker.away_s += seconds
                worker.shared_s += seconds
            self._count(str(key[1]), 1, seconds)

    def work_time(self) -> float:
        """A clock of the calling job's own work in seconds: it stands still while the job waits,
        and a shared run counts with the job's part of it."""
        worker: _Worker | None = getattr(self._here, "worker", None)
        return self.own_time() + (worker.shared_s if worker is not None else 0.0)

    def own_time(self) -> float:
        """As `work_time`, without the runs that were handed over."""
        worker: _Worker | None = getattr(self._here, "worker", None)
        return time.perf_counter() - (worker.away_s if worker is not None else 0.0)

    def close(self) -> None:
        """Take no more jobs; threads end when the queued ones are done."""
        with self._lock:
            self._closing = True
            self._dispatch()

    def join(self, timeout_s: float) -> bool:
        """Wait until all threads have ended; False when they did not within the time."""
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(w.thread is not None and w.thread.is_alive() for w in self._workers)

    def _dispatch(self) -> None:
        """Give every free core something to do. The lock is held."""
        while self._free:
            if self._ready:
                worker = self._ready.popleft()
            elif self._urgent and self._idle and len(self._waiting) < self.batch:
                worker = self._begin(self._urgent.popleft())
            elif self._waiting:
                batch = self._oldest()
                worker = batch[0].worker
                worker.duty = batch
            elif self._later and self._idle:
                worker = self._begin(self._later.popleft())
            else:
                break
            self._free -= 1
            worker.wake()
        if self._closing and not self._urgent and not self._later:
            for worker in self._idle:
                worker.wake()
            self._idle.clear()

    def _begin(self, job: Job) -> _Worker:
        worker = self._idle.pop()
        worker.job = job
        self._taken += 1
        worker.order = self._taken
        return worker

    def _oldest(self) -> list[_Request]:
        """Takes the run whose job was begun first, and those that can share it."""
        self._waiting.sort(key=lambda request: request.worker.order)
        key = self._waiting[0].key
        batch = [request for request in self._waiting if request.key == key][: self.batch]
        taken = {id(request) for request in batch}
        self._waiting = [request for request in self._waiting if id(request) not in taken]
        return batch

    def _run_shared(self, worker: _Worker) -> None:
        batch, worker.duty = worker.duty, []
        started = time.perf_counter()
        _run_all(batch)
        seconds = time.perf_counter() - started
        worker.away_s += seconds
        for request in batch:
            request.cost_s = seconds / len(batch)
        self._count(str(batch[0].key[1]), len(batch), seconds)
        with self._lock:
            self._ready.extend(request.worker for request in batch[1:])
            self._dispatch()

    def _count(self, kind: str, items: int, seconds: float) -> None:
        with self._lock:
            done = self._totals
            self._totals = CrewTotals(
                done.busy_s, done.shared_s + seconds, done.runs + 1, done.items + items
            )
        self.ran(kind, items, seconds)

    def _work(self, worker: _Worker) -> None:
        self._here.worker = worker
        _name_thread(worker.name)
        _give_way(self._nice)
        while True:
            worker.wait()
            job, worker.job = worker.job, None
            if job is None:
                return
            worker.begun_at = self._clock()
            self._resume(worker)
            try:
                job()
            finally:
                del job
                self._pause(worker)
                worker.begun_at = None
                with self._lock:
                    self._free += 1
                    self._idle.append(worker)
                    self._dispatch()

    def _resume(self, worker: _Worker) -> float:
        worker.since = time.perf_counter()
        return worker.since

    def _pause(self, worker: _Worker) -> float:
        """Charges what the worker has done since it got its core."""
        now = time.perf_counter()
        with self._lock:
            done = self._totals
            self._totals = CrewTotals(
                done.busy_s + now - worker.since, done.shared_s, done.runs, done.items
            )
        return now


class _Worker:
    """One thread, which sleeps until it is woken with something to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread: threading.Thread | None = None
        self.job: Job | None = None
        self.duty: list[_Request] = []
        """Runs that it is to do for itself and others."""
        self.begun_at: float | None = None
        self.order = 0
        """Number of its job in the order in which jobs were begun."""
        self.since = 0.0
        """When it got its core."""
        self.away_s = 0.0
        """Time that was not its job's own work: waiting, and runs that were handed over."""
        self.shared_s = 0.0
        """Its jobs' parts of those runs."""
        self._baton = threading.Semaphore(0)

    def wait(self) -> None:
        self._baton.acquire()

    def wake(self) -> None:
        self._baton.release()


class _Request:
    """A run that a job has handed over."""

    def __init__(
        self,
        key: tuple[Any, ...],
        run: Callable[[Sequence[Any]], Sequence[Any]],
        item: Any,
        worker: _Worker,
    ) -> None:
        self.key = key
        self.run = run
        self.item = item
        self.worker = worker
        self.result: Any = None
        self.error: Exception | None = None
        self.cost_s = 0.0


def _run_all(batch: list[_Request]) -> None:
    """One run for all; where it fails, one for each."""
    try:
        results = batch[0].run([request.item for request in batch])
        for request, result in zip(batch, results, strict=True):
            request.result = result
    except Exception as error:  # noqa: BLE001 - it belongs to the job that brought the item
        if len(batch) == 1:
            batch[0].error = error
            return
        for request in batch:
            _run_all([request])


def _name_thread(name: str) -> None:
    """Name the calling thread for `top -H` and debuggers, where the system can."""
    with suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def _give_way(nice: int) -> None:
    """Lower the priority of the calling thread, where the system can."""
    if not nice or not hasattr(os, "setpriority"):
        return
    thread = threading.get_native_id()
    try:
        lower = os.getpriority(os.PRIO_PROCESS, thread) + nice
        os.setpriority(os.PRIO_PROCESS, thread, lower)  # beyond the lowest counts as the lowest
    except OSError as error:
        _log.warning("a lane's priority can't be lowered: %s", error)
