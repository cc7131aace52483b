"""Runs of a graph that several streams may share: the seam between a family and the lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

Together = Callable[[tuple[Any, ...], Callable[[Sequence[Any]], Sequence[Any]], Any], Any]
"""Key, run, item -> result of the item: `run` takes items of one key, this one among them, and
gives their results in order. Whoever passes it in decides which items make one run.

A key is whose graphs they are, the kind of the run as a word, and what must be alike in it."""


def alone(key: tuple[Any, ...], run: Callable[[Sequence[Any]], Sequence[Any]], item: Any) -> Any:
    """The `Together` that batches nothing."""
    return run([item])[0]


@runtime_checkable
class Batchable(Protocol):
    """A streaming recogniser whose streams can share runs."""

    def proven_batch(self, most: int) -> int:
        """How many streams may share a run, at most `most`, so that each gets the very numbers that
        it gets alone; 1 when none may. Tries it, which takes the time of some hops."""

    def sharing(self, together: Together) -> Any:
        """The same model, with streams that hand their runs to `together`."""
