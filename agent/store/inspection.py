"""Looks at models on all levels again, and at their speed against the day of install."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from agent.engine.base import EngineSettings
from agent.errors import ModelError, RuntimeCrash
from agent.store.checkup import CheckFile, LastCheck, ModelCheckup, checkup
from agent.store.choices import ProviderChoice
from agent.store.library import FoundModel, Library, UnreadableModel
from agent.store.loader import require_fit
from agent.store.providers import Chooser, Trials
from agent.store.refs import parse_ref
from agent.store.roles import NO_MODEL, Role
from agent.store.trial import ABORTED, TrialRequest, refusal
from agent.store.trial_gate import TrialGate


class Inspection:
    """Owner of the record of the last check."""

    def __init__(
        self,
        library: Library,
        chooser: Callable[[], Chooser],
        gate: TrialGate,
        record: CheckFile,
        engine: Mapping[Role, EngineSettings],
        *,
        is_pinned: Callable[[FoundModel], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._library = library
        self._chooser = chooser
        self._gate = gate
        self._record = record
        self._engine = engine
        self._is_pinned = is_pinned
        self._now = now

    def last(self) -> LastCheck | None:
        """The last check of all models."""
        return self._record.read()

    def verify(
        self, name: str, *, told: Callable[[ModelCheckup], None] | None
    ) -> list[ModelCheckup]:
        """Look at one model, or (name empty) at all, which is recorded. Raises OSError."""
        found: list[FoundModel | UnreadableModel] = (
            [self._library.find(parse_ref(name))] if name else list(self._library.all())
        )
        checkups = []
        with self._gate.open() as trials:
            for model in found:
                checkups.append(self._look_at(model, trials, keep=True))
                if told is not None:
                    told(checkups[-1])
        if not name and ABORTED not in {checkup.code for checkup in checkups}:
            self._record.write(self._now().replace(microsecond=0).isoformat(), checkups)
        return checkups

    def check_roles(self, orders: Mapping[Role, Sequence[str]]) -> list[ModelCheckup]:
        """For each role, its models in order up to the one that would serve. Nothing is kept."""
        checkups: list[ModelCheckup] = []
        with self._gate.open() as trials:
            for role, order in orders.items():
                for name in order:
                    if name == NO_MODEL:
                        break
                    checkups.append(self._look_at_name(role, name, trials))
                    if checkups[-1].serves:
                        break
        return checkups

    def _look_at_name(self, role: Role, name: str, trials: Trials) -> ModelCheckup:
        try:
            found = self._library.find(parse_ref(name))
            require_fit(found.manifest, role)
        except ModelError as error:
            return ModelCheckup(role, name, False, error.level, error.code, error.message)
        return self._look_at(found, trials)

    def _look_at(
        self, found: FoundModel | UnreadableModel, trials: Trials, *, keep: bool = False
    ) -> ModelCheckup:
        if isinstance(found, UnreadableModel):
            error = found.error
            return ModelCheckup("", found.name, False, error.level, error.code, error.message)
        role: Role = found.manifest.task  # type: ignore[assignment]
        engine = self._engine.get(role, EngineSettings())
        chooser = self._chooser()
        choice = chooser.remembered(found)
        try:
            if choice is None or choice.chosen is None:
                require_fit(found.manifest, role)
                choice = chooser.choose(role, found, engine, trials, fresh=True, keep=keep)
                assert choice.chosen is not None
                result = choice.chosen.result
            else:
                result = trials.run(_request(chooser, found, role, choice, engine))
                if keep and result.code == RuntimeCrash.code:
                    chooser.forget(found)
        except ModelError as error:
            result = refusal(error)
        return checkup(found, self._is_pinned(found), result, choice)


def _request(
    chooser: Chooser, found: FoundModel, role: Role, choice: ProviderChoice, engine: EngineSettings
) -> TrialRequest:
    request = chooser.request(found, role, choice.variant, choice.provider, engine)
    if not choice.derived:
        return request
    return replace(request, derived=str(chooser.derived_folder(found, choice.derived)))
