"""A model store whose trials are told what to say, for tests that need no real graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.engine.base import EngineSettings
from agent.store.disk import Disk
from agent.store.loader import LoadModel
from agent.store.store import ModelStore, StoreSettings
from agent.store.trial import TrialRequest, TrialResult

PASSED = TrialResult(load_s=0.1, golden_s=0.01, audio_s=1.0, memory_mb=5.0)


class FakeTrials:
    """Says `verdict(request)` to every trial; keeps what it was asked."""

    def __init__(self, verdict: Callable[[TrialRequest], TrialResult] = lambda _: PASSED) -> None:
        self.verdict = verdict
        self.asked: list[TrialRequest] = []
        self.derived: list[Mapping[str, str]] = []
        self.derivation = TrialResult()
        self.probed = ""
        self.aborted = False

    def __call__(self) -> FakeTrials:
        return self

    def __enter__(self) -> FakeTrials:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, request: TrialRequest, *, timeout_s: float | None = None) -> TrialResult:
        self.asked.append(request)
        return self.verdict(request)

    def derive(self, request: Mapping[str, str], *, timeout_s: float) -> TrialResult:
        self.derived.append(request)
        return self.derivation

    def abort(self) -> None:
        self.aborted = True

    def probe(self, provider: str, *, timeout_s: float) -> str:
        return self.probed


def unchecked(role: str, model: Any, files: Any) -> None:
    """In place of the golden check."""


def fake_store(
    shipped: Path,
    state: Path,
    lists: Mapping[str, list[str]],
    *,
    trials: FakeTrials | None = None,
    load_model: LoadModel | None = None,
    disk: Disk | None = None,
    low_memory: bool = False,
    **more: Any,
) -> ModelStore:
    """A store over real folders."""
    settings = StoreSettings(
        shipped=shipped,
        state=state,
        lists=lists,  # type: ignore[arg-type]
        engine={role: EngineSettings(low_memory=low_memory) for role in lists},  # type: ignore[misc]
        **more,
    )
    return ModelStore(
        settings,
        disk=disk,
        open_trials=trials or FakeTrials(),
        load_model=load_model or (lambda family, files, settings: object()),
        check=unchecked,
    )
