"""Proves a runtime: a small graph must really run on each provider, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.config import PACKAGE_ROOT

LIMIT_S = 300.0
"""The first use of CUDA may translate kernels for the GPU at hand."""
_ANSWER = "answer "
_CODE = f"""
import json, sys
from agent.engine.placement import probe_provider
import agent.engine.ort, onnxruntime
state = probe_provider(sys.argv[1])
print("{_ANSWER}" + json.dumps({{
    "works": state.works, "reason": state.reason,
    "version": onnxruntime.__version__, "file": onnxruntime.__file__,
}}), flush=True)
"""


@dataclass(frozen=True)
class Proof:
    """What came of it."""

    reason: str
    """Why the runtime can't be used; empty when it can."""
    version: str = ""
    """Of the runtime that was really imported."""
    folder: Path | None = None
    """That it was imported from."""


class Prove(Protocol):
    """Proves a runtime."""

    def __call__(self, folder: Path | None) -> Proof:
        """`folder` holds the module; None: the one that is installed."""


def prove_providers(folder: Path | None, providers: Sequence[str]) -> Proof:
    """A small graph on each of `providers`, each in a process of its own. Never raises."""
    proof = Proof("nothing was tried")
    for provider in providers:
        proof = _prove(folder, provider)
        if proof.reason:
            return proof
    return proof


def _prove(folder: Path | None, provider: str) -> Proof:
    environ = dict(os.environ)
    places = [str(place) for place in (folder, PACKAGE_ROOT) if place is not None]
    environ["PYTHONPATH"] = os.pathsep.join(places)
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CODE, provider],
            env=environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Proof(f"{provider}: the trial did not end in {LIMIT_S:.0f} s")
    except OSError as error:
        return Proof(f"{provider}: the trial could not be started: {error}")
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_ANSWER):
            found = json.loads(line.removeprefix(_ANSWER))
            reason = "" if found["works"] else f"{provider}: {found['reason'] or 'does not run'}"
            return Proof(reason, str(found["version"]), Path(found["file"]).parent.parent)
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    last = f": {said[-1]}" if said else ""
    return Proof(f"{provider}: the trial {_ended(done.returncode)}{last}")


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
