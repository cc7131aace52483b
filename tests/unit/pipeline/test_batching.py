"""The crew: jobs take turns on the cores and share runs that are alike."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agent.pipeline.batching import Crew

WAIT_S = 10.0


class Bench:
    """A crew whose jobs are held at a gate until all of them are queued."""

    def __init__(self, cores: int, batch: int) -> None:
        self.crew = Crew("test", cores, batch)
        self.crew.start()
        self.runs: list[list[Any]] = []
        self.results: dict[Any, Any] = {}
        self._gate = threading.Event()
        self._ended = threading.Semaphore(0)
        self._jobs = 0

    def double(self, items: Sequence[int]) -> list[int]:
        self.runs.append(sorted(items))
        return [2 * item for item in items]

    def add(
        self,
        item: Any,
        run: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
        *,
        key: Any = "alike",
        urgent: bool = True,
    ) -> None:
        def job() -> None:
            try:
                together = self.crew.together
                self.results[item] = together((self, "kind", key), run or self.double, item)
            except Exception as error:  # noqa: BLE001 - looked at by the test
                self.results[item] = error
            finally:
                self._ended.release()

        self._jobs += 1
        self.crew.submit(job, urgent=urgent)

    def hold(self) -> None:
        """Keep every core busy until `go`."""
        begun = threading.Semaphore(0)

        def job() -> None:
            begun.release()
            self._gate.wait(WAIT_S)
            self._ended.release()

        for _ in range(self.crew.cores):
            self._jobs += 1
            self.crew.submit(job)
        for _ in range(self.crew.cores):
            assert begun.acquire(timeout=WAIT_S)

    def go(self) -> None:
        self._gate.set()
        for _ in range(self._jobs):
            assert self._ended.acquire(timeout=WAIT_S)

    def close(self) -> None:
        self._gate.set()
        self.crew.close()
        assert self.crew.join(WAIT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(1, 4)
    yield made
    made.close()


def test_jobs_that_are_due_together_share_a_run(bench: Bench) -> None:
    bench.hold()
    for item in range(3):
        bench.add(item)
    bench.go()
    assert bench.runs == [[0, 1, 2]]
    assert bench.results == {0: 0, 1: 2, 2: 4}


def test_a_run_is_shared_by_no_more_than_the_batch(bench: Bench) -> None:
    bench.hold()
    for item in range(10):
        bench.add(item)
    bench.go()
    assert [len(run) for run in bench.runs] == [4, 4, 2]
    assert bench.runs[0] == [0, 1, 2, 3]
    assert len(bench.results) == 10


def test_only_what_is_alike_shares_a_run(bench: Bench) -> None:
    bench.hold()
    for item in range(4):
        bench.add(item, key=item % 2)
    bench.go()
    assert bench.runs == [[0, 2], [1, 3]]


def test_one_job_alone_runs_at_once(bench: Bench) -> None:
    bench.add(5)
    bench.go()
    assert bench.results == {5: 10}
    assert (bench.crew.totals.runs, bench.crew.totals.items) == (1, 1)


def test_a_failure_reaches_only_the_job_that_brought_it(bench: Bench) -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ValueError("one is bad")
        return bench.double(items)

    bench.hold()
    for item in range(3):
        bench.add(item, run)
    bench.go()
    assert isinstance(bench.results[1], ValueError)
    assert (bench.results[0], bench.results[2]) == (0, 4)


def test_a_run_with_too_few_results_fails(bench: Bench) -> None:
    bench.add(3, lambda items: [])
    bench.go()
    assert isinstance(bench.results[3], ValueError)


def test_live_jobs_and_their_runs_go_before_the_others(bench: Bench) -> None:
    order: list[str] = []
    bench.hold()
    bench.add("file", lambda items: order.extend(items) or list(items), urgent=False)
    bench.add("live", lambda items: order.extend(items) or list(items))
    bench.go()
    assert order == ["live", "file"]


def test_no_more_jobs_than_cores_are_at_work_however_many_wait() -> None:
    bench = Bench(2, 4)
    at_work, most, lock = [0], [0], threading.Lock()

    def run(items: Sequence[int]) -> list[int]:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        time.sleep(0.01)
        with lock:
            at_work[0] -= 1
        return list(items)

    bench.hold()
    for item in range(20):
        bench.add(item, run)
    bench.go()
    bench.close()
    assert most[0] == 2
    assert sorted(bench.results) == list(range(20))


def test_two_runs_in_one_job_keep_their_order(bench: Bench) -> None:
    done: list[tuple[int, int]] = []
    ended = threading.Semaphore(0)

    def job(n: int) -> None:
        first = bench.crew.together((bench, "encoder", 1), bench.double, n)
        done.append((n, bench.crew.together((bench, "decoder", 1), bench.double, first)))
        ended.release()

    bench.hold()
    for n in range(6):
        bench.crew.submit(lambda n=n: job(n))
    bench.go()
    for _ in range(6):
        assert ended.acquire(timeout=WAIT_S)
    assert sorted(done) == [(n, 4 * n) for n in range(6)]
    assert bench.runs == [[0, 1, 2, 3], [0, 2, 4, 6], [4, 5], [8, 10]]


def test_in_a_thread_of_another_kind_a_run_is_made_alone(bench: Bench) -> None:
    assert bench.crew.together((bench, "kind", 1), bench.double, 4) == 8


def test_waiting_is_no_work_and_a_shared_run_counts_in_parts(bench: Bench) -> None:
    worked: dict[int, tuple[float, float]] = {}
    told: list[tuple[str, int]] = []
    bench.crew.ran = lambda kind, items, seconds: told.append((kind, items))

    def slow(items: Sequence[int]) -> list[int]:
        time.sleep(0.2)
        return list(items)

    ended = threading.Semaphore(0)

    def job(n: int) -> None:
        work, own = bench.crew.work_time(), bench.crew.own_time()
        bench.crew.together((bench, "kind", 1), slow, n)
        worked[n] = (bench.crew.work_time() - work, bench.crew.own_time() - own)
        ended.release()

    bench.hold()
    for n in range(4):
        bench.crew.submit(lambda n=n: job(n))
    bench.go()
    for _ in range(4):
        assert ended.acquire(timeout=WAIT_S)
    assert told == [("kind", 4)]
    for work, own in worked.values():
        assert work == pytest.approx(0.05, abs=0.03)
        assert own < 0.03


def test_the_age_is_that_of_the_oldest_job() -> None:
    now = [10.0]
    crew = Crew("test", 2, 1, clock=lambda: now[0])
    crew.start()
    gates = [threading.Event(), threading.Event()]
    begun = threading.Semaphore(0)

    def job(n: int) -> None:
        begun.release()
        gates[n].wait(WAIT_S)

    crew.submit(lambda: job(0))
    assert begun.acquire(timeout=WAIT_S)
    now[0] = 14.0
    crew.submit(lambda: job(1))
    assert begun.acquire(timeout=WAIT_S)
    now[0] = 15.0
    assert crew.age_s == pytest.approx(5.0)
    gates[0].set()
    deadline = time.monotonic() + WAIT_S
    while crew.age_s > 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert crew.age_s == pytest.approx(1.0)
    gates[1].set()
    crew.close()
    assert crew.join(WAIT_S)


def test_closing_finishes_what_is_queued(bench: Bench) -> None:
    bench.hold()
    for item in range(6):
        bench.add(item)
    bench.crew.close()
    bench.go()
    assert len(bench.results) == 6


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="this system knows no niceness")
def test_a_nice_crew_gives_way_and_only_its_own_threads_do() -> None:
    crew = Crew("test", nice=7)
    crew.start()
    found: list[int] = []
    done = threading.Event()
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def job() -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        done.set()

    crew.submit(job)
    assert done.wait(WAIT_S)
    crew.close()
    assert crew.join(WAIT_S)
    assert found == [min(19, before + 7)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
