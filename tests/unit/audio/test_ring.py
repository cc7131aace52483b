"""The ring: bounded, oldest first out, and every lost sample is said."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.ring import Ring


def block(first: int, size: int) -> np.ndarray:
    return np.arange(first, first + size, dtype=np.int16)


def test_what_fits_comes_out_as_it_went_in() -> None:
    ring = Ring(100)
    ring.push(block(0, 40))
    ring.push(block(40, 40))
    items = ring.take(1000)
    assert np.concatenate(items).tolist() == list(range(80))
    assert (len(ring), ring.is_empty, ring.overflows) == (0, True, 0)


def test_the_oldest_goes_and_the_gap_is_where_it_was() -> None:
    ring = Ring(100)
    for i in range(4):
        ring.push(block(40 * i, 40))
    gap, *rest = ring.take(1000)
    assert gap == 80
    assert np.concatenate(rest).tolist() == list(range(80, 160))
    assert ring.overflows == 2


def test_a_block_larger_than_the_ring_keeps_its_end() -> None:
    ring = Ring(100)
    ring.push(block(0, 250))
    gap, kept = ring.take(1000)
    assert gap == 150
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == list(range(150, 250))


def test_gaps_that_follow_each_other_become_one() -> None:
    ring = Ring(10)
    ring.push(block(0, 5))
    ring.skip(3)
    ring.skip(4)
    ring.skip(0)
    assert [item if isinstance(item, int) else len(item) for item in ring.take(99)] == [5, 7]


def test_a_gap_alone_can_be_taken() -> None:
    ring = Ring(10)
    ring.skip(7)
    assert (len(ring), ring.is_empty) == (0, False)
    assert ring.take(1) == (7,)


def test_rows_of_channels_are_counted_as_one() -> None:
    ring = Ring(10)
    ring.push(np.zeros((8, 2), np.int16))
    ring.push(np.zeros((8, 2), np.int16))
    gap, kept = ring.take(99)
    assert gap == 8
    assert isinstance(kept, np.ndarray)
    assert kept.shape == (8, 2)


@given(st.lists(st.tuples(st.sampled_from(["push", "skip", "take"]), st.integers(0, 60))))
def test_nothing_vanishes_unsaid_and_the_bound_holds(steps: list[tuple[str, int]]) -> None:
    ring, pushed, told, bound = Ring(50), 0, 0, 50
    for what, size in steps:
        if what == "push":
            ring.push(np.zeros(size, np.int16))
            pushed += size
        elif what == "skip":
            ring.skip(size)
            pushed += size
        else:
            told += sum(i if isinstance(i, int) else len(i) for i in ring.take(size))
        assert len(ring) <= bound
    while not ring.is_empty:
        told += sum(i if isinstance(i, int) else len(i) for i in ring.take(1000))
    assert told == pushed
