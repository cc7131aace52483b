"""Measures one graph file, or one form of a model, in a process of its own: JSON in, JSON out."""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from agent.bench.measure import times_of
from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.ort import Graph, open_graph, provider_options, runtime_version
from agent.engine.placement import placement_of_profiles
from agent.errors import AgentError
from agent.store.box_memory import gpu_held_mb
from agent.store.equality import Feeds, Run, graphs_of, recorded
from agent.store.golden import built_in_clip, read_clip
from agent.store.manifest import read_manifest
from agent.store.roles import Role
from agent.store.verify import read_verified
from agent.store.workload import tiled
from agent.types import StreamOptions
from scripts.gpu.feeds import random_feeds

Answer = dict[str, Any]
_MB = 1 << 20
_MIN_RUNS, _MAX_RUNS = 2, 200
_NEW_LENGTHS = (0.93, 0.71, 0.87, 0.53, 0.79)
"""Of the audio that is measured, in an order in which memory was not taken just before."""


def main() -> int:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the runtime's own messages must not mix with the answer
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer = measure_model(request) if "folder" in request else measure_file(request)
    except AgentError as error:
        answer = {"problem": error.message}
    except Exception as error:  # noqa: BLE001 - a graph can fail in the runtime in any way
        answer = {"problem": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer).encode())
    answers.flush()
    return 0


def measure_model(request: Mapping[str, Any]) -> Answer:
    """The graphs of a variant, fed with what the model's own family hands them.

    Raises AgentError and what the runtime raises.
    """
    folder = Path(request["folder"])
    manifest = read_manifest(folder)
    variant = next(v for v in manifest.variants if v.name == request["variant"])
    role: Role = manifest.task  # type: ignore[assignment]
    settings = EngineSettings(threads=request["threads"], provider=request["provider"])
    with read_verified(manifest, folder, variant) as files:
        golden = manifest.golden
        audio = golden.audio if golden is not None else ""
        clip = read_clip(files.read(audio), audio) if audio else built_in_clip()

        def load(profile_dir: str) -> Any:
            more = EngineSettings(settings.threads, settings.provider, profile_dir)
            return load_model(manifest.family, files, more)

        def work(model: Any, seconds: float) -> list[Run]:
            return list(recorded(role, model, tiled(clip, seconds), StreamOptions()))

        return _measured(load, graphs_of, work, request)


def measure_file(request: Mapping[str, Any]) -> Answer:
    """A graph alone, fed with random numbers. Raises AgentError."""
    path = Path(request["graph"])
    data = path.read_bytes()

    def load(profile_dir: str) -> Graph:
        return open_graph(
            data,
            name=path.name,
            threads=request["threads"],
            provider=request["provider"],
            profile_dir=profile_dir,
        )

    def work(graph: Graph, seconds: float) -> list[Run]:
        feeds = random_feeds(graph.inputs.values(), seconds)
        graph.run(feeds)
        return [Run(graph.name, feeds)]

    return _measured(load, lambda graph: {graph.name: graph}, work, request)


def _measured(
    load: Callable[[str], Any],
    graphs_in: Callable[[Any], dict[str, Graph]],
    work: Callable[[Any, float], list[Run]],
    request: Mapping[str, Any],
) -> Answer:
    process = psutil.Process()
    resident, held = process.memory_info().rss, gpu_held_mb()
    started = time.perf_counter()
    model = load("")
    load_s = time.perf_counter() - started
    started = time.perf_counter()
    runs = _typical(work(model, request["seconds"]))
    first_s = time.perf_counter() - started
    new_s = _new_lengths(partial(work, model), request["seconds"])
    graphs = graphs_in(model)
    rows = {name: _timed(graphs[name], run, request["limit_s"]) for name, run in runs.items()}
    memory_mb = (process.memory_info().rss - resident) / _MB
    answer = {
        "runtime": runtime_version(),
        "options": provider_options(request["provider"]),
        "load_s": round(load_s, 3),
        "first_work_s": round(first_s, 3),
        "new_length_ms": round(new_s * 1000, 1),
        "memory_mb": round(memory_mb),
        "gpu_held_mb": max(0, gpu_held_mb() - held),
        "graphs": rows,
    }
    del model, graphs
    gc.collect()
    profiled = _placed(load, lambda again: work(again, request["seconds"]), list(rows))
    for name, placed in profiled.items():
        rows[name] |= placed
    return answer


def _new_lengths(work: Callable[[float], object], most_s: float) -> float:
    """What audio of a length that never came before costs more than when it comes again, seconds:
    on a GPU each convolution is planned anew. The median of a few lengths."""
    more = []
    for share in _NEW_LENGTHS:
        begun = time.perf_counter()
        work(most_s * share)
        new_s = time.perf_counter() - begun
        begun = time.perf_counter()
        work(most_s * share)
        more.append(new_s - (time.perf_counter() - begun))
    return max(0.0, median(more))


def _typical(runs: list[Run]) -> dict[str, Run]:
    """Of each graph the run with the shape that came most often, the largest of those."""
    counts = Counter((run.graph, run.shape) for run in runs)
    found: dict[str, Run] = {}
    for run in runs:
        best = found.get(run.graph)
        if best is None or _weight(run, counts) > _weight(best, counts):
            found[run.graph] = run
    return found


def _weight(run: Run, counts: Counter[Any]) -> tuple[int, int]:
    return counts[run.graph, run.shape], sum(array.size for array in run.feeds.values())


def _timed(graph: Graph, run: Run, limit_s: float) -> Answer:
    times: list[float] = []
    graph.run(run.feeds)
    ends = time.perf_counter() + limit_s
    while len(times) < _MIN_RUNS or (len(times) < _MAX_RUNS and time.perf_counter() < ends):
        begun = time.perf_counter()
        graph.run(run.feeds)
        times.append(time.perf_counter() - begun)
    found = times_of(graph.name, 0.0, times)
    return {
        "shapes": _shapes(run.feeds),
        "runs": found.runs,
        "p50_ms": found.p50_ms,
        "p95_ms": found.p95_ms,
        "least_ms": found.least_ms,
    }


def _shapes(feeds: Feeds) -> dict[str, list[int]]:
    """Of the inputs; the caches of a stream are left out."""
    return {name: list(array.shape) for name, array in feeds.items() if "cache" not in name}


def _placed(
    load: Callable[[str], Any], work: Callable[[Any], Any], names: list[str]
) -> dict[str, Answer]:
    """Graph -> where its nodes ran, by profiles of sessions of their own."""
    with tempfile.TemporaryDirectory(prefix="funasr-agent-profile-") as folder:
        model = load(folder)
        work(model)
        del model  # the profiles are written when the sessions go
        gc.collect()
        return {name: _placement(_profiles(Path(folder), name)) for name in names}


def _profiles(folder: Path, name: str) -> list[Path]:
    pattern = re.compile(re.escape(name.replace("/", "_")) + r"_\d[\d_-]*\.json")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _placement(profiles: list[Path]) -> Answer:
    found = placement_of_profiles(profiles)
    return {
        "nodes": dict(found.nodes),
        "copies": _copies(profiles),
        "computed_on_cpu": {name: found.cpu_counts[name] for name in found.heavy_cpu_ops},
    }


def _copies(profiles: list[Path]) -> int:
    """Nodes that carry values between the GPU's memory and the CPU's."""
    found = set()
    for path in profiles:
        try:
            events = json.loads(path.read_bytes())
        except ValueError:  # the runtime writes names of nodes into it as they are
            continue
        found |= {
            event["name"]
            for event in events
            if event.get("args", {}).get("op_name", "").startswith("Memcpy")
        }
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
