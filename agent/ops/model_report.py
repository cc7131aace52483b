"""The models that serve, as status, health and page tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.ops.health import Finding, Status
from agent.pipeline.model_keeper import Serving
from agent.said import say, say_all
from agent.store.loader import LoadedRole, Refusal
from agent.store.model_set import LoadedModels
from agent.store.store import ModelStore

_REQUIRED = ("vad",)


class ModelReport:
    """Owner of what was loaded."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._loaded: LoadedModels | None = None
        self._problem = ""
        self._store_problems: Sequence[str] = ()

    def serves(self, serving: Serving) -> None:
        """Other models serve, or more is known of them."""
        self._loaded, self._problem = serving.loaded, serving.problem
        self._store_problems = serving.store_problems

    def rows(self) -> list[dict[str, Any]]:
        """The model of each role, and what was refused before it."""
        if self._loaded is None:
            return []
        rows = [self._role_row(loaded) for loaded in self._loaded.roles.values()]
        for role, failure in self._loaded.failures.items():
            rows.append(
                {
                    "role": role,
                    "id": None,
                    "state": "no usable model",
                    "refused": _refused(failure.refusals),
                }
            )
        return rows

    def models_check(self) -> Sequence[tuple[str, Finding]]:
        """What each role came to."""
        if self._loaded is None:
            starting = say("models_loading", "models are being verified and loaded")
            return [("models", Finding(Status.STARTING, starting))]
        found: list[tuple[str, Finding]] = []
        if self._problem:
            problem = say("models_problem", "{text}", text=self._problem)
            found.append(("models", Finding(Status.FAILING, problem)))
        for role, loaded in self._loaded.roles.items():
            name = f"model_{role}"
            if loaded.model is None and not loaded.refusals:
                found.append((name, Finding(Status.OK, say("model_none", "no model is set"))))
            elif loaded.refusals:
                reason = say(
                    "model_in_place",
                    "{id} serves in place of a refused model: {reasons}",
                    id=loaded.id,
                    reasons=[_with_level(refusal) for refusal in loaded.refusals],
                )
                found.append((name, Finding(Status.DEGRADED, reason)))
            else:
                found.append((name, Finding(Status.OK, self._serves(loaded))))
        for role, failure in self._loaded.failures.items():
            status = Status.FAILING if role in _REQUIRED else Status.DEGRADED
            reasons = [_with_level(refusal) for refusal in failure.refusals]
            unusable = say("role_unusable", "{text}", text=failure.message, reasons=reasons)
            found.append((f"model_{role}", Finding(status, unusable)))
        return found

    def _serves(self, loaded: LoadedRole) -> str:
        if loaded.found is None or self._store.is_pinned(loaded.found):
            return say("model_serves", "{id} serves", id=loaded.id)
        unpinned = "{id} serves (unpinned: its hashes are not on the list of known models)"
        return say("model_unpinned", unpinned, id=loaded.id)

    def store_check(self) -> Sequence[tuple[str, Finding]]:
        """What the store says of itself, and what the last `models verify` found."""
        problems = self._store_problems
        if problems:
            return [("model_store", Finding(Status.DEGRADED, say_all(problems)))]
        well = say("store_well", "no model is known to be damaged or slow")
        return [("model_store", Finding(Status.OK, well))]

    def _role_row(self, loaded: LoadedRole) -> dict[str, Any]:
        choice = loaded.chosen.choice if loaded.chosen else None
        return {
            "role": loaded.role,
            "id": loaded.id,
            "ref": str(loaded.ref),
            "family": loaded.manifest.family if loaded.manifest else None,
            "variant": loaded.variant.name if loaded.variant else None,
            "provider": loaded.provider or None,
            "sha256": loaded.sha256 or None,
            "pinned": self._store.is_pinned(loaded.found) if loaded.found else None,
            "load_time_s": round(loaded.load_time_s, 3),
            "state": "in use",
            "refused": _refused(loaded.refusals),
            "choice": choice.to_json() if choice else None,
            **_parameters(loaded.model),
        }


def _refused(refusals: Sequence[Refusal]) -> list[Mapping[str, str]]:
    return [{"id": r.id, "level": r.level, "code": r.code, "message": r.message} for r in refusals]


def _parameters(model: Any) -> dict[str, Any]:
    """What the model was told beside its weights, and whether hotwords change what it reads."""
    shown = {}
    if (parameters := getattr(model, "parameters", None)) is not None:
        shown["parameters"] = parameters.to_json()
    if (can_bias := getattr(model, "can_bias", None)) is not None:
        shown["hotwords"] = can_bias
    return shown


def _with_level(refusal: Refusal) -> str:
    fields = {"id": refusal.id, "message": refusal.message}
    if refusal.level == "integrity":
        return say("refused_integrity", "{id}: {message} (level: integrity)", **fields)
    if refusal.level == "compatibility":
        return say("refused_compatibility", "{id}: {message} (level: compatibility)", **fields)
    if refusal.level == "function":
        return say("refused_function", "{id}: {message} (level: function)", **fields)
    return say("refused", "{id}: {message}", **fields)
