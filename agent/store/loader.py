"""Loads the first usable model of a role's list; every refusal on the way is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.engine.base import EngineSettings, ModelFiles
from agent.errors import AgentError, CompatibilityError, ModelError, ModelLoadError
from agent.store.box import require_runtime
from agent.store.choices import ProviderChoice
from agent.store.derive import derived_graphs
from agent.store.golden import check_golden
from agent.store.library import FoundModel, Library
from agent.store.manifest import Manifest, Variant
from agent.store.refs import ModelRef, parse_ref
from agent.store.roles import NO_MODEL, Role
from agent.store.verify import VerifiedModel, read_verified
from agent.types import SAMPLE_RATE

LoadModel = Callable[[str, ModelFiles, EngineSettings], Any]
"""family, verified bytes, settings -> the model."""
CheckModel = Callable[[Role, Any, VerifiedModel], object]
"""Tries a freshly loaded model; whatever it raises refuses the model."""


@dataclass(frozen=True)
class Chosen:
    """How a model is to run on this box."""

    variant: Variant
    provider: str
    derived: Path | None = None
    """Folder of the derived graphs that replace the variant's own."""
    choice: ProviderChoice | None = None
    """The proof behind it."""


ChooseVariant = Callable[[Role, FoundModel, EngineSettings], Chosen]


@dataclass(frozen=True)
class Refusal:
    """Why a model of the list does not serve."""

    id: str
    code: str
    """Code of the error (`integrity`, `bad_manifest`, ...)."""
    message: str
    level: str = ""
    """Level of verification that it failed: integrity, compatibility, function; else empty."""

    def __str__(self) -> str:
        return f"{self.id}: {self.message}"


@dataclass(frozen=True)
class LoadedRole:
    """The model that serves a role, and what was refused before it."""

    role: Role
    model: Any
    """As `agent.types` names it for the role; None when the list ended in `none`."""
    id: str
    found: FoundModel | None
    chosen: Chosen | None
    load_time_s: float
    """Verification, loading and golden check of this model, without the refused ones."""
    refusals: tuple[Refusal, ...] = ()

    @property
    def manifest(self) -> Manifest | None:
        """Its manifest."""
        return self.found.manifest if self.found else None

    @property
    def variant(self) -> Variant | None:
        """The variant in use."""
        return self.chosen.variant if self.chosen else None

    @property
    def provider(self) -> str:
        """The execution provider in use; empty without a model."""
        return self.chosen.provider if self.chosen else ""

    @property
    def sha256(self) -> str:
        """Of manifest.yaml, and through it of every file of the model; empty without a model."""
        return self.found.manifest.sha256 if self.found else ""

    @property
    def ref(self) -> ModelRef:
        """Exact name of the model; `none` without one."""
        return self.found.ref if self.found else ModelRef(self.id)


class NoUsableModel(ModelLoadError):
    """Every model of a role's list was refused; `refusals` says why."""

    def __init__(self, role: Role, refusals: tuple[Refusal, ...]) -> None:
        reasons = "\n".join(f"  {refusal}" for refusal in refusals) or "  the list is empty"
        super().__init__(f"no model of models.{role} can be used:\n{reasons}")
        self.role = role
        self.refusals = refusals


def load_role(
    role: Role,
    ids: Sequence[str],
    library: Library,
    settings: EngineSettings,
    *,
    choose: ChooseVariant | None = None,
    load_model: LoadModel | None = None,
    check: CheckModel = check_golden,
    clock: Callable[[], float] = time.perf_counter,
) -> LoadedRole:
    """The first model of `ids` (`id` or `id@sha8`) that passes every level and can be loaded.

    `choose` says with which variant (default: the first for `settings.provider`). Raises
    NoUsableModel when all are refused.
    """
    refusals: list[Refusal] = []
    for name in ids:
        if name == NO_MODEL and role == "punctuation":
            return LoadedRole(role, None, NO_MODEL, None, None, 0.0, tuple(refusals))
        started = clock()
        try:
            found = library.find(parse_ref(name))
            require_fit(found.manifest, role)
            chosen = (choose or first_variant)(role, found, settings)
            model = _load(role, found, chosen, settings, load_model or _load_by_engine, check)
        except AgentError as error:
            level = error.level if isinstance(error, ModelError) else ""
            refusals.append(Refusal(name, error.code, error.message, level))
        except Exception as error:  # noqa: BLE001 - a graph can fail in the runtime in any way
            reason = f"{type(error).__name__}: {error}"
            refusals.append(Refusal(name, ModelLoadError.code, f"can't be loaded: {reason}"))
        else:
            took = clock() - started
            return LoadedRole(role, model, found.ref.id, found, chosen, took, tuple(refusals))
    raise NoUsableModel(role, tuple(refusals))


def require_fit(manifest: Manifest, role: Role) -> None:
    """Raises CompatibilityError when the model can't serve in this role, or not on this box."""
    if manifest.task != role:
        raise CompatibilityError(f"its task is {manifest.task}, it can't serve as {role}")
    if manifest.sample_rate != SAMPLE_RATE:
        raise CompatibilityError(
            f"it is made for {manifest.sample_rate} Hz, the agent works at {SAMPLE_RATE} Hz"
        )
    require_runtime(manifest.requires.onnxruntime)


def first_variant(role: Role, found: FoundModel, settings: EngineSettings) -> Chosen:
    """The first variant for `settings.provider`. Raises CompatibilityError without one."""
    for variant in found.manifest.variants:
        if variant.provider == settings.provider:
            return Chosen(variant, variant.provider)
    has = ", ".join(sorted({variant.provider for variant in found.manifest.variants}))
    raise CompatibilityError(f"it has no variant for {settings.provider}, only for {has}")


def _load(
    role: Role,
    found: FoundModel,
    chosen: Chosen,
    settings: EngineSettings,
    load_model: LoadModel,
    check: CheckModel,
) -> Any:
    settings = replace(settings, provider=chosen.provider)
    manifest = found.manifest
    derived = None if chosen.derived is None else derived_graphs(chosen.derived, manifest)
    with read_verified(manifest, found.folder, chosen.variant, derived=derived) as files:
        del derived
        model = load_model(manifest.family, files, settings)
        check(role, model, files)
    return model


def _load_by_engine(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
    """Imported on use: a box where ONNX Runtime can't be imported has refusals, not a crash."""
    from agent.engine.families import load_model

    return load_model(family, files, settings)
