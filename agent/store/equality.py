"""Proves that derived graphs compute what the original ones do, to the last bit, and times both.

The graphs get what the model's own family hands them, for speech of several lengths, and the same
shapes filled with random numbers, caches included. Both models must be loaded: use it in a process
of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.engine.ort import Array, Graph
from agent.errors import CompatibilityError, InferenceError
from agent.store.roles import Role
from agent.store.workload import do_work, tiled
from agent.types import Int16, StreamOptions

PROOF_S = 15.0
"""Time for the comparison, after which only what was not compared at all yet is."""
SPEED_S = 12.0
TIMED_AUDIO_S = 10.0
_LENGTHS_S = (1.0, 2.3, 5.0)
_CHUNK_SIZES = ((5, 10, 5), (5, 7, 3))
_HOTWORDS = (("开放时间", 20), ("开发", 20))
_SHAPES = 4
"""Different shapes of inputs that each graph is compared on."""
_RANDOM_FILLS = 2
_EXTREME = 4.0
"""Standard deviations; such inputs take int8 to its ends, where some CPUs saturate."""
_ROUNDS = 7
_ROUND_S = 3.0
_MAX_DEPTH = 12

Feeds = dict[str, Array]


@dataclass(frozen=True)
class Run:
    """What a graph was given once."""

    graph: str
    feeds: Feeds

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all inputs."""
        return tuple(array.shape for array in self.feeds.values())


@dataclass(frozen=True)
class Speed:
    """CPU times of the same work, runs of both in turn; of each run the shortest."""

    original_s: float
    derived_s: float
    audio_s: float


def prove_equal(
    role: Role,
    original: Any,
    derived: Any,
    clip: Int16,
    *,
    limit_s: float = PROOF_S,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """How many times the outputs of both models' graphs were found the same, bit for bit.

    Raises CompatibilityError naming the first output that differs, or a graph that could not be
    compared; and what the model raises.
    """
    pairs = _pairs(original, derived)
    runs = _different_runs(role, original, clip)
    rng = np.random.default_rng(0)
    compared = dict.fromkeys(pairs, 0)
    ends = clock() + limit_s
    for run in runs:
        left, right = pairs[run.graph]
        for feeds in _fills(run.feeds, rng):
            if clock() > ends and compared[run.graph]:
                continue
            compared[run.graph] += _same(left, right, feeds)
    missed = [name for name, count in compared.items() if not count]
    if missed:
        raise CompatibilityError(
            f"can't be proven equal: {', '.join(missed)} was not run on the clip, or refused every "
            "random input"
        )
    return sum(compared.values())


def compare_speed(
    role: Role,
    original: Any,
    derived: Any,
    clip: Int16,
    *,
    limit_s: float = SPEED_S,
    clock: Callable[[], float] = time.process_time,
    wall: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time the graphs of both models on 10 s of audio, less on a slow box, in turn.

    What is chosen by this stays chosen: so CPU time is compared, which other programs of a busy box
    change least, and of each run of a graph the shortest counts.
    """
    pairs = _pairs(original, derived)
    started = clock()
    do_work(role, original, tiled(clip, 1.0))
    audio_s = min(TIMED_AUDIO_S, max(1.0, _ROUND_S / max(clock() - started, 1e-6)))
    runs = list(recorded(role, original, tiled(clip, audio_s), StreamOptions()))
    best = [[float("inf")] * len(runs) for _ in range(2)]
    ends = wall() + limit_s
    for count in range(_ROUNDS):
        if count >= 2 and wall() > ends:
            break
        for number, run in enumerate(runs):
            for side in (0, 1) if (count + number) % 2 else (1, 0):
                begun = clock()
                pairs[run.graph][side].run(run.feeds)
                best[side][number] = min(best[side][number], clock() - begun)
    return Speed(sum(best[0]), sum(best[1]), audio_s)


def graphs_of(model: Any) -> dict[str, Graph]:
    """The graphs that a model of any family holds, by name."""
    found: dict[str, Graph] = {}
    seen: set[int] = set()

    def look(thing: Any, depth: int) -> None:
        if id(thing) in seen or depth > _MAX_DEPTH:
            return
        seen.add(id(thing))
        if isinstance(thing, Graph):
            found[thing.name] = thing
        elif isinstance(thing, Mapping):
            for part in thing.values():
                look(part, depth + 1)
        elif isinstance(thing, list | tuple):
            for part in thing:
                look(part, depth + 1)
        elif type(thing).__module__.startswith("agent."):
            for part in getattr(thing, "__dict__", {}).values():
                look(part, depth + 1)

    look(model, 0)
    return found


def recorded(role: Role, model: Any, audio: Int16, options: StreamOptions) -> Iterator[Run]:
    """What the graphs of a model are given for this audio."""
    runs: list[Run] = []

    def teller(name: str) -> Callable[[Mapping[str, Array]], None]:
        def told(feeds: Mapping[str, Array]) -> None:
            runs.append(Run(name, {port: np.array(value) for port, value in feeds.items()}))

        return told

    graphs = graphs_of(model)
    for name, graph in graphs.items():
        graph.watch(teller(name))
    try:
        do_work(role, model, audio, options)
    finally:
        for graph in graphs.values():
            graph.watch(None)
    yield from runs


def _pairs(original: Any, derived: Any) -> dict[str, tuple[Graph, Graph]]:
    left, right = graphs_of(original), graphs_of(derived)
    if not left or left.keys() != right.keys():
        raise CompatibilityError(
            f"can't be compared: the model has the graphs {', '.join(left) or 'none'}, derived "
            f"were {', '.join(right) or 'none'}"
        )
    return {name: (left[name], right[name]) for name in left}


def _different_runs(role: Role, model: Any, clip: Int16) -> list[Run]:
    """Runs of every graph, each of another shape, the shortest audio first."""
    kept: dict[tuple[Any, ...], Run] = {}
    counts: dict[str, int] = {}
    for length_s, options in _works(role, model):
        for run in recorded(role, model, tiled(clip, length_s), options):
            key = (run.graph, run.shape)
            if key not in kept and counts.get(run.graph, 0) < _SHAPES:
                kept[key] = run
                counts[run.graph] = counts.get(run.graph, 0) + 1
    return list(kept.values())


def _works(role: Role, model: Any) -> Iterator[tuple[float, StreamOptions]]:
    plain = StreamOptions()
    if getattr(model, "can_bias", False):
        yield _LENGTHS_S[-1], replace(plain, hotwords=_HOTWORDS)
    for number, length_s in enumerate(_LENGTHS_S):
        chunk_size = _CHUNK_SIZES[number % len(_CHUNK_SIZES)]
        yield length_s, replace(plain, chunk_size=chunk_size) if role == "asr_online" else plain


def _fills(feeds: Feeds, rng: np.random.Generator) -> Iterator[Feeds]:
    """Random numbers in place of every float, then its ends only, then what was recorded.

    Whole numbers stay: they are lengths, and indices into tables.
    """
    for fill in range(_RANDOM_FILLS + 1):
        filled = {}
        for name, value in feeds.items():
            if value.dtype.kind == "f":
                scale = float(np.nan_to_num(value.std())) or 1.0
                drawn = rng.standard_normal(value.shape)
                if fill == _RANDOM_FILLS:
                    drawn = np.where(drawn < 0, -_EXTREME, _EXTREME)
                value = (drawn * scale).astype(value.dtype)
            filled[name] = value
        yield filled
    yield feeds


def _same(left: Graph, right: Graph, feeds: Feeds) -> int:
    """1 when both gave the same, 0 when neither could compute it. Raises CompatibilityError."""
    wanted, found = _outputs(left, feeds), _outputs(right, feeds)
    if wanted is None and found is None:
        return 0
    if wanted is None or found is None:
        raise CompatibilityError("refuses other inputs than the original", file=left.name)
    for name, value in wanted.items():
        other = found[name]
        alike = value.dtype == other.dtype and value.shape == other.shape
        if not alike or value.tobytes() != other.tobytes():
            raise CompatibilityError(
                f"its output {name} differs from the original's on this CPU", file=left.name
            )
    return 1


def _outputs(graph: Graph, feeds: Feeds) -> dict[str, Array] | None:
    try:
        return graph.run(feeds)
    except InferenceError:
        return None
