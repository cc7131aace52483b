"""Loads all roles into the set of models that a session works with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

from agent.engine.base import EngineSettings
from agent.errors import ModelLoadError
from agent.store.golden import check_golden
from agent.store.library import FoundModel, Library
from agent.store.loader import (
    CheckModel,
    ChooseVariant,
    Chosen,
    LoadedRole,
    LoadModel,
    NoUsableModel,
    Refusal,
    first_variant,
    load_role,
    require_fit,
)
from agent.store.refs import ModelRef, parse_ref
from agent.store.roles import ROLES, Role
from agent.types import ModelSet

_MEMORY_A_BYTE = 3
"""Bytes of memory that loading takes for a byte of graphs: as read, as parsed, as packed."""


@dataclass(frozen=True)
class LoadedModels:
    """What every role came to."""

    roles: Mapping[Role, LoadedRole]
    """Roles that serve; an optional role with an empty list is absent."""
    failures: Mapping[Role, NoUsableModel]
    """Roles whose whole list was refused."""

    @property
    def refusals(self) -> dict[Role, tuple[Refusal, ...]]:
        """Every refusal, of serving and of failed roles; roles without one are absent."""
        found = {role: loaded.refusals for role, loaded in self.roles.items()}
        found.update({role: failure.refusals for role, failure in self.failures.items()})
        return {role: refusals for role, refusals in found.items() if refusals}

    @property
    def ids(self) -> dict[str, str]:
        """Role -> id of the model that serves it."""
        return {str(role): loaded.id for role, loaded in self.roles.items()}

    def model_set(self) -> ModelSet:
        """The models for sessions: a VAD and at least one recogniser.

        Raises ModelLoadError naming every refusal when there is no such set.
        """
        readers = [role for role in ("asr_online", "asr_offline") if role in self.roles]
        if "vad" not in self.roles or not readers:
            reasons = "\n".join(str(failure) for failure in self.failures.values())
            raise ModelLoadError(reasons or "neither a streaming nor an offline recogniser is set")
        return ModelSet(
            vad=self.roles["vad"].model,
            online=self._model("asr_online"),
            offline=self._model("asr_offline"),
            punctuation=self._model("punctuation"),
            ids=self.ids,
        )

    def _model(self, role: Role) -> Any:
        loaded = self.roles.get(role)
        return None if loaded is None else loaded.model


def load_models(
    lists: Mapping[Role, Sequence[str]],
    library: Library,
    settings: Mapping[Role, EngineSettings],
    *,
    choose: ChooseVariant | None = None,
    load_model: LoadModel | None = None,
    check: CheckModel = check_golden,
    at_once: int = 1,
    available: Callable[[], int] = lambda: psutil.virtual_memory().available,
) -> LoadedModels:
    """Load each role of `lists`; a role that fails does not keep the others from loading.

    `at_once` roles are loaded side by side at most, where `available` bytes of memory allow it:
    hashing and the runtime's own loading keep one core each busy. Variants are chosen before that,
    one after the other, as choosing may measure time.
    """
    wanted = {role: ids for role in ROLES if (ids := lists.get(role, ()))}
    chooser = _Chooser(choose or first_variant)
    if at_once > 1 and len(wanted) > 1:
        size = sum(
            chooser.foresee(role, ids[0], library, settings.get(role, EngineSettings()))
            for role, ids in wanted.items()
        )
        if available() < _MEMORY_A_BYTE * size:
            at_once = 1

    def load(role: Role) -> LoadedRole | NoUsableModel:
        try:
            return load_role(
                role,
                wanted[role],
                library,
                settings.get(role, EngineSettings()),
                choose=chooser.choose,
                load_model=load_model,
                check=check,
            )
        except NoUsableModel as failure:
            return failure

    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="load") as threads:
        loaded = dict(zip(wanted, threads.map(load, wanted), strict=True))
    return LoadedModels(
        {role: found for role, found in loaded.items() if isinstance(found, LoadedRole)},
        {role: failure for role, failure in loaded.items() if isinstance(failure, NoUsableModel)},
    )


class _Chooser:
    """Chooses for one thread at a time, and once for a model in a role: trials take long."""

    def __init__(self, choose: ChooseVariant) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self._chosen: dict[tuple[Role, ModelRef], Chosen | Exception] = {}

    def choose(self, role: Role, found: FoundModel, settings: EngineSettings) -> Chosen:
        """The variant of a model for a role. Raises what refuses it."""
        with self._lock:
            if (role, found.ref) not in self._chosen:
                self._chosen[role, found.ref] = self._try(role, found, settings)
            chosen = self._chosen[role, found.ref]
        if isinstance(chosen, Exception):
            raise chosen
        return chosen

    def foresee(self, role: Role, name: str, library: Library, settings: EngineSettings) -> int:
        """Choose for the model that a role will load first; the bytes of its graphs.

        0 for a model that will be refused: why, its loading finds out and tells.
        """
        try:
            found = library.find(parse_ref(name))
            require_fit(found.manifest, role)
            chosen = self.choose(role, found, settings)
        except Exception:  # noqa: BLE001 - whatever it is, the loading refuses the model for it
            return 0
        graphs = chosen.variant.graphs.values()
        return sum(found.manifest.files[graph].size for graph in graphs)

    def _try(self, role: Role, found: FoundModel, settings: EngineSettings) -> Chosen | Exception:
        try:
            return self._choose(role, found, settings)
        except Exception as error:  # noqa: BLE001 - as above
            return error
