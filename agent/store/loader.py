"""Loads the first usable model of a role's list; every refusal on the way is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.engine.base import EngineSettings, ModelFiles
from agent.errors import AgentError, CompatibilityError, ManifestError, ModelLoadError
from agent.store.manifest import Manifest, Variant, is_model_id, read_manifest
from agent.store.names import MANIFEST_NAME
from agent.store.roles import NO_MODEL, Role
from agent.store.verify import read_verified
from agent.types import SAMPLE_RATE

LoadModel = Callable[[str, ModelFiles, EngineSettings], Any]
"""family, verified bytes, settings -> the model."""
SmokeRun = Callable[[Role, Any], None]
"""Tries a freshly loaded model; whatever it raises refuses the model."""


@dataclass(frozen=True)
class Refusal:
    """Why a model of the list does not serve."""

    id: str
    code: str
    """Code of the error (`integrity`, `bad_manifest`, ...)."""
    message: str

    def __str__(self) -> str:
        return f"{self.id}: {self.message}"


@dataclass(frozen=True)
class LoadedRole:
    """The model that serves a role, and what was refused before it."""

    role: Role
    model: Any
    """As `agent.types` names it for the role; None when the list ended in `none`."""
    id: str
    manifest: Manifest | None
    variant: Variant | None
    provider: str
    sha256: str
    """Of manifest.yaml, and through it of every file of the model."""
    load_time_s: float
    """Verification, loading and smoke run of this model, without the refused ones."""
    refusals: tuple[Refusal, ...] = ()


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
    folders: Sequence[Path],
    settings: EngineSettings,
    *,
    load_model: LoadModel | None = None,
    smoke: SmokeRun | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LoadedRole:
    """The first model of `ids` that can be verified and loaded.

    Each id is looked for in `folders`, in order. `settings.provider` chooses the variant.
    Raises NoUsableModel when all are refused.
    """
    load = load_model or _load_by_engine
    refusals: list[Refusal] = []
    for model_id in ids:
        if model_id == NO_MODEL and role == "punctuation":
            return LoadedRole(role, None, NO_MODEL, None, None, "", "", 0.0, tuple(refusals))
        started = clock()
        try:
            manifest, folder = find_model(model_id, folders)
            variant = choose_variant(manifest, role, settings.provider)
            with read_verified(manifest, folder, variant) as files:
                model = load(manifest.family, files, settings)
            if smoke is not None:
                smoke(role, model)
        except AgentError as error:
            refusals.append(Refusal(model_id, error.code, error.message))
        except Exception as error:  # noqa: BLE001 - a graph can fail in the runtime in any way
            reason = f"{type(error).__name__}: {error}"
            refusals.append(Refusal(model_id, ModelLoadError.code, f"can't be loaded: {reason}"))
        else:
            return LoadedRole(
                role,
                model,
                model_id,
                manifest,
                variant,
                variant.provider,
                manifest.sha256,
                clock() - started,
                tuple(refusals),
            )
    raise NoUsableModel(role, tuple(refusals))


def find_model(model_id: str, folders: Sequence[Path]) -> tuple[Manifest, Path]:
    """Manifest and folder of a model. Raises ManifestError when it is not there or malformed."""
    if not is_model_id(model_id):
        raise ManifestError(
            f"{model_id!r} is not a model id (lower-case letters, digits, '.', '_' and '-')"
        )
    for parent in folders:
        folder = parent / model_id
        if not (folder / MANIFEST_NAME).exists():
            continue
        manifest = read_manifest(folder)
        if manifest.id != model_id:
            raise ManifestError(
                f"the id is {manifest.id!r}, the folder is {model_id!r}; they must be the same",
                file=f"{model_id}/{MANIFEST_NAME}",
            )
        return manifest, folder
    places = ", ".join(str(parent / model_id) for parent in folders)
    raise ManifestError(f"no {MANIFEST_NAME} in {places}; install the model or change models.*")


def choose_variant(manifest: Manifest, role: Role, provider: str) -> Variant:
    """The first variant for `provider`. Raises CompatibilityError when the model can't serve."""
    if manifest.task != role:
        raise CompatibilityError(f"its task is {manifest.task}, it can't serve as {role}")
    if manifest.sample_rate != SAMPLE_RATE:
        raise CompatibilityError(
            f"it is made for {manifest.sample_rate} Hz, the agent works at {SAMPLE_RATE} Hz"
        )
    for variant in manifest.variants:
        if variant.provider == provider:
            return variant
    has = ", ".join(sorted({variant.provider for variant in manifest.variants}))
    raise CompatibilityError(f"it has no variant for {provider}, only for {has}")


def _load_by_engine(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
    """Imported on use: a box where ONNX Runtime can't be imported has refusals, not a crash."""
    from agent.engine.families import load_model

    return load_model(family, files, settings)
