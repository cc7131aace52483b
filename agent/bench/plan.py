"""What is measured: the models in use, in which forms, with how many threads, for how long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent.bench.measure import AUDIO_S, Times
from agent.engine.base import EngineSettings
from agent.errors import CompatibilityError, ModelError
from agent.store.library import FoundModel
from agent.store.refs import parse_ref
from agent.store.roles import NO_MODEL, ROLES, Role
from agent.store.store import ModelStore

LEAST_S, MOST_S = 0.3, 4.0
"""Time for one kind of work of one model."""
_LOAD_LIMIT_S = 120.0
_SLOWEST_BYTES_A_SECOND = 4 << 20
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Subject:
    """A model in one form, with a number of threads."""

    role: Role
    found: FoundModel
    variant: str
    provider: str
    derived: str = ""
    """Name of the derivation whose graphs are used; empty: the variant's own."""
    threads: int = 1
    in_use: bool = False

    @property
    def form(self) -> str:
        """Variant as people are told of it."""
        return self.derived or self.variant

    @property
    def kinds_of_work(self) -> int:
        """How many things are timed."""
        return len(AUDIO_S) if self.role == "asr_offline" else 1


@dataclass(frozen=True)
class Measured:
    """A subject, and what was measured or why not."""

    subject: Subject
    verify_s: float = 0.0
    """Reading and hashing every file of the model."""
    load_s: float = 0.0
    memory_mb: int = 0
    """Resident memory that the loaded model added."""
    memory_after_work_mb: int = 0
    times: tuple[Times, ...] = ()
    problem: str = ""


RunWorker = Callable[[Mapping[str, Any], float], dict[str, Any]]
"""Request, time limit in s -> the worker's answer, `problem` in it when it failed."""


def subjects(store: ModelStore, threads: Sequence[int], *, model: str = "") -> list[Subject]:
    """The models in use, each in the form in use and as published; or every form of `model`.

    Raises ModelError for a `model` that is not here.
    """
    found: list[Subject] = []
    if model:
        only = store.library.find(parse_ref(model))
        role: Role = only.manifest.task  # type: ignore[assignment]
        found += _forms(store, role, only, every=True)
    else:
        for role in ROLES:
            serving = _serving(store, role)
            if serving is not None:
                found += _forms(store, role, serving, every=False)
    return [replace(subject, threads=count) for subject in found for count in threads]


def run_all(
    planned: Sequence[Subject],
    engine: Mapping[Role, EngineSettings],
    derived: Path,
    budget_s: float,
    *,
    run: RunWorker | None = None,
) -> Iterator[Measured]:
    """Measure one after the other; the work that is timed takes about `budget_s` in all.

    `derived`: folder of derived graphs.
    """
    kinds = sum(subject.kinds_of_work for subject in planned)
    limit_s = min(MOST_S, max(LEAST_S, budget_s / max(1, kinds)))
    for subject in planned:
        settings = engine.get(subject.role, EngineSettings())
        request = {
            "role": subject.role,
            "folder": str(subject.found.folder),
            "manifest_sha256": subject.found.manifest.sha256,
            "variant": subject.variant,
            "provider": subject.provider,
            "derived": str(derived / str(subject.found.ref) / subject.derived)
            if subject.derived
            else "",
            "threads": subject.threads,
            "low_memory": settings.low_memory,
            "gpu": asdict(settings.gpu),
            "vad": dict(settings.vad),
            "limit_s": limit_s,
        }
        answer = (run or run_worker)(request, _time_for(subject, limit_s))
        yield _measured(subject, answer)


def run_worker(request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    """The `RunWorker` that starts `agent.bench.worker`; what kills it becomes a problem."""
    command = [sys.executable, "-m", "agent.bench.worker"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=limit_s,
            cwd=_PACKAGE_ROOT,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"did not come to an end within {limit_s:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
        return {"problem": f"the process that measured it ended with {done.returncode}: {last[0]}"}
    return answer


def _measured(subject: Subject, answer: dict[str, Any]) -> Measured:
    if problem := answer.get("problem"):
        return Measured(subject, problem=str(problem))
    times = tuple(Times(**entry) for entry in answer.pop("times"))
    return Measured(subject, times=times, **answer)


def _serving(store: ModelStore, role: Role) -> FoundModel | None:
    """The first model of the role that is here and has not been refused on this box."""
    for name in store.order(role):
        if name == NO_MODEL:
            return None
        try:
            found = store.library.find(parse_ref(name))
        except ModelError:
            continue
        proof = store.proof(found)
        if found.manifest.task == role and (proof is None or proof.variant):
            return found
    return None


def _forms(store: ModelStore, role: Role, found: FoundModel, *, every: bool) -> list[Subject]:
    """The form in use first. What was not tried on this box yet counts as its first CPU variant."""
    proof = store.proof(found)
    variants = found.manifest.variants
    plain = [Subject(role, found, v.name, v.provider) for v in variants if v.provider == "cpu"]
    if proof is not None and proof.variant:
        used = Subject(role, found, proof.variant, proof.provider, proof.derived, in_use=True)
    elif plain:
        used = replace(plain[0], in_use=True)
    else:
        raise CompatibilityError(f"{found.ref} has no variant for the CPU and was not tried yet")
    others = [s for s in plain if replace(used, in_use=False) != s]
    return [used, *(s for s in others if every or s.variant == used.variant)]


def _time_for(subject: Subject, limit_s: float) -> float:
    files = subject.found.manifest.files.values()
    read_s = sum(listed.size for listed in files) / _SLOWEST_BYTES_A_SECOND
    return _LOAD_LIMIT_S + read_s + 10 * limit_s * subject.kinds_of_work
