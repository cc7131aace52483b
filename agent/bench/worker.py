"""The process behind `agent.bench.plan`: one JSON request on stdin, one JSON result on stdout.

Each model is measured in a fresh process, so that its memory is its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import psutil

from agent.engine.base import EngineSettings, GpuSettings
from agent.errors import AgentError, IntegrityError
from agent.store.derive import derived_graphs
from agent.store.golden import built_in_clip, read_clip
from agent.store.manifest import read_manifest
from agent.store.roles import Role
from agent.store.verify import VerifiedModel, read_verified
from agent.types import Int16

_MB = 1 << 20


def main() -> int:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the runtime's own messages must not mix with the answer
    answers.write(json.dumps(_answer(json.loads(sys.stdin.buffer.read()))).encode())
    answers.flush()
    return 0


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return bench_model(request)
    except AgentError as error:
        return {"problem": error.message}
    except Exception as error:  # noqa: BLE001 - a graph can fail in the runtime in any way
        return {"problem": f"{type(error).__name__}: {error}"}


def bench_model(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load and measure one variant of a model. Raises AgentError and what the runtime raises."""
    # What every model needs is loaded before, and counts for none.
    from agent.bench.measure import measure
    from agent.engine.families import load_model
    from agent.engine.ort import release_memory

    role = cast(Role, request["role"])
    folder = Path(request["folder"])
    manifest = read_manifest(folder)
    if manifest.sha256 != request["manifest_sha256"]:
        raise IntegrityError("changed before it was measured", file=f"{folder.name}/manifest.yaml")
    variant = next(v for v in manifest.variants if v.name == request["variant"])
    settings = EngineSettings(
        threads=request["threads"],
        provider=request["provider"],
        low_memory=request["low_memory"],
        gpu=GpuSettings(**request["gpu"]),
        vad=request["vad"],
    )
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    derived = derived_graphs(Path(request["derived"]), manifest) if request["derived"] else None
    with read_verified(manifest, folder, variant, derived=derived) as files:
        del derived
        verified = time.perf_counter()
        model = load_model(manifest.family, files, settings)
        loaded = time.perf_counter()
        clip = _clip(files)
    release_memory()
    after_load = process.memory_info().rss
    times = measure(role, model, clip, request["limit_s"])
    return {
        "verify_s": round(verified - started, 3),
        "load_s": round(loaded - verified, 3),
        "memory_mb": round((after_load - before) / _MB),
        "memory_after_work_mb": round((process.memory_info().rss - before) / _MB),
        "times": [asdict(entry) for entry in times],
    }


def _clip(files: VerifiedModel) -> Int16:
    golden = files.manifest.golden
    if golden is None or not golden.audio:
        return built_in_clip()
    return read_clip(files.read(golden.audio), golden.audio)


if __name__ == "__main__":
    sys.exit(main())
