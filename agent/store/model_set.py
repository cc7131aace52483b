"""Loads all roles into the set of models that a session works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.engine.base import EngineSettings
from agent.errors import ModelLoadError
from agent.store.golden import check_golden
from agent.store.library import Library
from agent.store.loader import (
    CheckModel,
    ChooseVariant,
    LoadedRole,
    LoadModel,
    NoUsableModel,
    Refusal,
    load_role,
)
from agent.store.roles import ROLES, Role
from agent.types import ModelSet


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
) -> LoadedModels:
    """Load each role of `lists`; a role that fails does not keep the others from loading."""
    roles: dict[Role, LoadedRole] = {}
    failures: dict[Role, NoUsableModel] = {}
    for role in ROLES:
        ids = lists.get(role, ())
        if not ids:
            continue
        try:
            roles[role] = load_role(
                role,
                ids,
                library,
                settings.get(role, EngineSettings()),
                choose=choose,
                load_model=load_model,
                check=check,
            )
        except NoUsableModel as failure:
            failures[role] = failure
    return LoadedModels(roles, failures)
