"""The process behind `agent.store.trial`: one JSON request a line in, one JSON result a line out.

`{"do": "try", ...}` verifies a variant at all three levels and times it; `{"do": "derive", ...}`
makes a derived variant, and proves one for the CPU equal to its source and faster;
`{"do": "probe", ...}` says whether a provider works. What kills this process kills nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import psutil

from agent.engine.base import EngineSettings, GpuSettings
from agent.errors import (
    AgentError,
    CompatibilityError,
    IntegrityError,
    ModelError,
    ModelLoadError,
)
from agent.store.box_memory import gpu_held_mb
from agent.store.candidates import HALVED
from agent.store.derive import derivation_named, derive_variant, derived_graphs
from agent.store.disk import Disk
from agent.store.golden import built_in_clip, check_golden, read_clip
from agent.store.manifest import Manifest, Variant, read_manifest
from agent.store.roles import Role
from agent.store.trial import refusal
from agent.store.verify import VerifiedModel, read_verified
from agent.store.workload import do_work, tiled
from agent.types import Int16

Answer = dict[str, Any]
_PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>: the kernel sends the process a signal when its parent has died."""
_MAX_MESSAGE = 4000
"""A manifest can list thousands of files, and each can be bad."""
_TIMED_S = 10.0
"""Audio that a model is timed on."""
_TIMING_LIMIT_S = 6.0
"""No further run is begun after this."""
_FASTER = 0.97
"""Of the original's time: what derived graphs must stay below to be used for their speed."""
_AS_FAST = 1.03
_QUICKER_TO_LOAD = 0.85
"""Of the original's time to load: derived graphs that are as fast are used for this."""
_COPIES = 5
"""Of all graphs, that deriving and proving hold in memory at once; int8 grows by it."""
_COPIES_HALVED = 3


class NotFaster(CompatibilityError):
    """Derived graphs that are of no use on this box."""

    code = "not_faster"


def main() -> int:
    """Serve requests until standard input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _die_with_parent()
    os.nice(int(os.environ.get("FUNASR_AGENT_TRIAL_NICE", "0")))
    # The runtime's own messages must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _send(answers, _answer(_ACTIONS[request.pop("do")], request))
    return 0


def _die_with_parent() -> None:
    """A runtime that hangs does not see its standard input end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(action: Callable[[Mapping[str, Any]], Answer], request: Mapping[str, Any]) -> Answer:
    try:
        return action(request)
    except ModelError as error:
        return _failure(error)
    except AgentError as error:
        return {"code": error.code, "message": error.message}
    except Exception as error:  # noqa: BLE001 - a graph can fail in the runtime in any way
        return _failure(ModelLoadError(f"can't be loaded: {type(error).__name__}: {error}"))


def _failure(error: ModelError) -> Answer:
    result = refusal(error)
    message = result.message
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}..."
    return {"code": result.code, "level": result.level, "message": message}


def _send(answers: BinaryIO, answer: Answer) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _try(request: Mapping[str, Any]) -> Answer:
    from agent.engine.ort import release_memory

    manifest, folder, variant = _variant(request)
    settings = EngineSettings(
        threads=request["threads"],
        provider=request["provider"],
        gpu=GpuSettings(**request["gpu"]),
        vad=request["vad"],
    )
    started = time.perf_counter()
    derived = derived_graphs(Path(request["derived"]), manifest) if request["derived"] else None
    with read_verified(manifest, folder, variant, derived=derived) as files:
        del derived
        read_s = time.perf_counter() - started
        _inspect(files)
        release_memory()
        before, gpu_before = psutil.Process().memory_info().rss, gpu_held_mb()
        started = time.perf_counter()
        model = _load(manifest, files, settings)
        load_s = read_s + time.perf_counter() - started
        memory = max(0, psutil.Process().memory_info().rss - before)
        role = cast(Role, request["role"])
        seconds, audio_s = _timed(role, model, files, request["runs"])
        on_gpu = settings.provider == "cuda"
        gpu_mb = max(0, gpu_held_mb() - gpu_before) if on_gpu else 0
        nodes, notes = _placement(manifest, files, settings, role)
    return {
        "load_s": round(load_s, 4),
        "golden_s": round(seconds, 5),
        "audio_s": round(audio_s, 3),
        "memory_mb": round(memory / 2**20, 1),
        "gpu_mb": gpu_mb,
        "nodes": nodes,
        "notes": notes,
    }


def _timed(role: Role, model: Any, files: VerifiedModel, runs: int) -> tuple[float, float]:
    """Check the model, then time it on its golden audio, repeated so that the time says something;
    the shortest of at most `runs`. Seconds of work, seconds of audio."""
    if role == "punctuation":
        checked = check_golden(role, model, files, runs=runs)
        return checked.seconds, checked.audio_s
    check_golden(role, model, files)
    audio = tiled(_clip(files), _TIMED_S)
    best, ends = float("inf"), time.perf_counter() + _TIMING_LIMIT_S
    for _ in range(max(1, runs)):
        started = time.perf_counter()
        do_work(role, model, audio)
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() > ends:
            break
    return best, _TIMED_S


def _derive(request: Mapping[str, Any]) -> Answer:
    manifest, folder, variant = _variant(request)
    derivation = derivation_named(request["derivation"])
    _require_memory(manifest, variant, _COPIES_HALVED if derivation.name == HALVED else _COPIES)
    target = Path(request["target"])
    derive_variant(manifest, folder, variant, derivation, target, Disk())
    if derivation.provider != "cpu":
        return {}
    return {"message": _prove_better(request, target / derivation.name)}


def _require_memory(manifest: Manifest, variant: Variant, copies: int) -> None:
    needed = copies * sum(manifest.files[file].size for file in variant.graphs.values())
    free = psutil.virtual_memory().available
    if free < needed:
        raise CompatibilityError(
            f"needs {needed >> 20} MB of memory to be made and proven, {free >> 20} MB are free"
        )


def _prove_better(request: Mapping[str, Any], derived: Path) -> str:
    """What derived graphs gain, in words.

    Raises NotFaster, CompatibilityError when they compute anything else than the original.
    """
    from agent.store.equality import compare_speed, prove_equal

    manifest, folder, variant = _variant(request)
    role = cast(Role, request["role"])
    settings = EngineSettings(threads=int(request["threads"]), vad=request["vad"])
    graphs = derived_graphs(derived, manifest)
    with read_verified(manifest, folder, variant, derived=graphs) as files:
        del graphs
        made, made_s = _timed_load(manifest, files, settings)
    with read_verified(manifest, folder, variant) as files:
        original, original_s = _timed_load(manifest, files, settings)
        clip = _clip(files)
    prove_equal(role, original, made, clip)
    speed = compare_speed(role, original, made, clip)
    ratio = speed.derived_s / speed.original_s
    words = (
        f"{speed.derived_s * 1000:.1f} ms against {speed.original_s * 1000:.1f} ms in the graphs, "
        f"loads in {made_s:.2f} s against {original_s:.2f} s"
    )
    if ratio > _FASTER and not (ratio <= _AS_FAST and made_s < _QUICKER_TO_LOAD * original_s):
        raise NotFaster(f"it is no better than {variant.name}: {words}")
    return f"the same numbers as {variant.name}, {words}"


def _timed_load(
    manifest: Manifest, files: VerifiedModel, settings: EngineSettings
) -> tuple[Any, float]:
    """The model, and the CPU time that loading it took in seconds."""
    started = time.process_time()
    model = _load(manifest, files, settings)
    return model, time.process_time() - started


def _clip(files: VerifiedModel) -> Int16:
    golden = files.manifest.golden
    if golden is None or not golden.audio:
        return built_in_clip()
    return read_clip(files.read(golden.audio), golden.audio)


def _variant(request: Mapping[str, Any]) -> tuple[Manifest, Path, Variant]:
    folder = Path(request["folder"])
    manifest = read_manifest(folder)
    if manifest.sha256 != request["manifest_sha256"]:
        raise IntegrityError(
            "changed before it could be tried", file=f"{folder.name}/manifest.yaml"
        )
    return manifest, folder, next(v for v in manifest.variants if v.name == request["variant"])


def _inspect(files: VerifiedModel) -> None:
    """What the graphs need, before the runtime sees them."""
    from agent.engine.placement import runtime_operators
    from agent.store.inspect_graph import inspect_graph

    operators = runtime_operators()
    for role in files.graph_roles:
        inspect_graph(files.graph(role), f"{files.model_id}/{role}", runtime=operators)


def _load(manifest: Manifest, files: VerifiedModel, settings: EngineSettings) -> Any:
    from agent.engine.families import load_model

    return load_model(manifest.family, files, settings)


def _placement(
    manifest: Manifest, files: VerifiedModel, settings: EngineSettings, role: Role
) -> tuple[dict[str, int], list[str]]:
    """Nodes by provider, and what computes on the CPU, where another provider was asked for."""
    if settings.provider == "cpu":
        return {}, []
    from agent.engine.placement import placement_of_profiles

    with tempfile.TemporaryDirectory(prefix="funasr-agent-profile-") as folder:
        model = _load(manifest, files, replace(settings, profile_dir=folder))
        check_golden(role, model, files)
        del model
        gc.collect()
        found = placement_of_profiles(Path(folder).iterdir())
    heavy = [f"{name} ({found.cpu_counts[name]})" for name in found.heavy_cpu_ops]
    return dict(found.nodes), heavy


def _probe(request: Mapping[str, Any]) -> Answer:
    from agent.engine.placement import probe_provider

    state = probe_provider(request["provider"])
    return {} if state.works else {"code": "not_usable", "message": state.reason}


_ACTIONS: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "try": _try,
    "derive": _derive,
    "probe": _probe,
}


if __name__ == "__main__":
    sys.exit(main())
