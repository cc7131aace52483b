"""The model store of a box: the one owner of what is installed, chosen and proven.

Used by the daemon and, where none runs, by the commands; whoever changes something holds the
store's lock. Every change is durable when its method returns, and leaves the old state standing
when it is interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from agent.engine.base import EngineSettings
from agent.engine.placement import package_problem
from agent.errors import BundleError, ModelError, ModelInUse, UnknownModel
from agent.store.archive import disk_errors_told
from agent.store.box import fingerprint, has_gpu
from agent.store.checkup import CHECK_NAME, CheckFile, ModelCheckup
from agent.store.choices import ChoiceBook, ProviderChoice
from agent.store.disk import Disk
from agent.store.embedded import EMBEDDED, EMBEDDED_OF_ROLE, EMBEDDED_PREFIX
from agent.store.golden import check_golden
from agent.store.inspection import Inspection
from agent.store.install import InstalledModel, Installer
from agent.store.known import is_pinned
from agent.store.library import FoundModel, Library, UnreadableModel
from agent.store.loader import CheckModel, Chosen, LoadedRole, LoadModel, Refusal, require_fit
from agent.store.manifest import read_manifest
from agent.store.model_set import LoadedModels, load_models
from agent.store.names import MANIFEST_NAME
from agent.store.providers import Chooser, Gpu, OpenTrials, Trials
from agent.store.refs import ModelRef, parse_ref
from agent.store.roles import NO_MODEL, ROLES, ROLES_NAME, Role, RolesFile
from agent.store.trial import TrialRunner
from agent.store.trial_gate import TrialGate
from agent.store.trust import TrustedKeys

_GPU_LIMIT_S = 60.0
_LOADS_AT_ONCE = 2
"""More would wait for each other: the runtime loads graphs with Python's lock held in part."""


@dataclass(frozen=True)
class StoreSettings:
    """Where the store is and what is configured."""

    shipped: Path
    """Models that came with the agent."""
    state: Path
    lists: Mapping[Role, Sequence[str]]
    """Role -> ids in the configured order."""
    engine: Mapping[Role, EngineSettings]
    provider: str = "auto"
    """auto, cpu or cuda."""
    trusted_keys: Sequence[str] = ()
    max_bundle_bytes: int = 8 << 30


class ModelStore:
    """Finds, proves, installs and chooses models."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        disk: Disk | None = None,
        open_trials: OpenTrials = TrialRunner,
        load_model: LoadModel | None = None,
        check: CheckModel = check_golden,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Raises ModelError for a trusted key that can't be read."""
        self._settings = settings
        self._disk = disk or Disk()
        self._gate = TrialGate(open_trials)
        self._load_model = load_model
        self._check = check
        self._keys = TrustedKeys.load(settings.trusted_keys)
        self._roles = RolesFile(settings.state / ROLES_NAME, self._disk)
        self._book = ChoiceBook(settings.state / "choices", self._disk)
        self.library = Library(settings.state / "models", settings.shipped, self._keys)
        self._inspection = Inspection(
            self.library,
            lambda: self._chooser,
            self._gate,
            CheckFile(settings.state / CHECK_NAME, self._disk),
            settings.engine,
            is_pinned=self.is_pinned,
            now=now,
        )

    # What is there.

    def order(self, role: Role) -> list[str]:
        """Names of a role in the order in which they are tried: what was chosen, what served
        before it, the configured list, the embedded model."""
        choices, _ = self._roles.read()
        names = list(self._settings.lists.get(role, ()))
        embedded = EMBEDDED_OF_ROLE.get(role, "")
        if names and embedded and (self._settings.shipped / embedded / MANIFEST_NAME).exists():
            names.append(embedded)
        if choice := choices.get(role):
            names = [
                str(choice.model),
                *([str(choice.previous)] if choice.previous else []),
                *names,
            ]
        return list(dict.fromkeys(names))

    def roles_problem(self) -> str:
        """Why roles.yaml can't be used; empty when it can."""
        return self._roles.read()[1]

    def chosen(self, role: Role) -> tuple[str, str]:
        """The chosen model of a role and the one before it; empty where there is none."""
        choice = self._roles.read()[0].get(role)
        if choice is None:
            return "", ""
        return str(choice.model), str(choice.previous or "")

    def models(self) -> Iterator[FoundModel | UnreadableModel]:
        """Every model folder of the box."""
        return self.library.all()

    def is_pinned(self, found: FoundModel) -> bool:
        """Whether its graphs are known: a published model, or one that came with the agent."""
        return found.ref.id in EMBEDDED or is_pinned(found.manifest)

    def proof(self, found: FoundModel) -> ProviderChoice | None:
        """What was proven on this box as it is."""
        return self._chooser.remembered(found)

    def last_check(self) -> tuple[str, tuple[str, ...]] | None:
        """Time and problems of the last `models verify`."""
        last = self._inspection.last()
        return None if last is None else (last.time, last.problems)

    # Loading.

    def load_all(self) -> LoadedModels:
        """Load every role along its order; refused models are recorded, never raised."""
        return self.load({role: self.order(role) for role in ROLES})

    def load(self, lists: Mapping[Role, Sequence[str]]) -> LoadedModels:
        """Load the roles of `lists`, each along its list."""
        with self._gate.open() as trials:
            return load_models(
                lists,
                self.library,
                self._settings.engine,
                choose=self._choose_with(trials),
                load_model=self._load_model,
                check=self._check,
                at_once=self._loads_at_once(),
            )

    def _loads_at_once(self) -> int:
        low_memory = any(engine.low_memory for engine in self._settings.engine.values())
        return 1 if low_memory else min(len(os.sched_getaffinity(0)), _LOADS_AT_ONCE)

    def load_one(self, role: Role, name: str) -> LoadedRole:
        """Load exactly this model for a role. Raises its refusal as a ModelError."""
        loaded = self.load({role: [name]})
        if role in loaded.roles:
            return loaded.roles[role]
        first = loaded.failures[role].refusals[0]
        kind = UnknownModel if first.code == UnknownModel.code else ModelError
        error = kind(f"{first}; {role} keeps its model")
        error.code, error.level = first.code, first.level
        raise error

    def _choose_with(self, trials: Trials) -> Callable[[Role, FoundModel, EngineSettings], Chosen]:
        def choose(role: Role, found: FoundModel, engine: EngineSettings) -> Chosen:
            choice = self._chooser.choose(role, found, engine, trials)
            variant = next(v for v in found.manifest.variants if v.name == choice.variant)
            derived = choice.derived
            folder = self._chooser.derived_folder(found, derived) if derived else None
            return Chosen(variant, choice.provider, folder, choice)

        return choose

    # Changes. The caller holds the store's lock.

    def choose(self, role: Role, name: str, serving: ModelRef | None = None) -> ModelRef:
        """Record the model of a role, which has been proven; `serving` becomes the previous one.

        Without `serving`, that is the choice so far, else the first of the list that is here. A
        model is never its own previous one: what was recorded as such stays then.
        """
        model = ModelRef(NO_MODEL) if name == NO_MODEL else self.library.find(parse_ref(name)).ref
        choices, _ = self._roles.read()
        if choice := choices.get(role):
            before = [serving or choice.model, choice.previous, choice.model]
        else:
            before = [serving or self._first_here(role)]
        previous = next((ref for ref in before if ref is not None and ref != model), None)
        with disk_errors_told(self._settings.state):
            self._roles.choose(role, model, previous)
        return model

    def previous(self, role: Role) -> str:
        """What `rollback` goes back to. Raises UnknownModel when nothing served before."""
        _, previous = self.chosen(role)
        if not previous:
            raise UnknownModel(f"{role} has no previous model: nothing was chosen before")
        return previous

    def prove_for(self, role: Role, name: str) -> ProviderChoice:
        """Prove a model for a role. Raises its refusal."""
        found = self.library.find(parse_ref(name))
        require_fit(found.manifest, role)
        return self._prove(found, fresh=True)

    def install(
        self, stream: BinaryIO, *, progress: Callable[[int], None] | None = None
    ) -> tuple[InstalledModel, ...]:
        """Install the models of a bundle, all proven first. Raises AgentError; then nothing of it
        is kept."""
        tried: list[FoundModel] = []
        try:
            return self._installer(tried).install(stream, progress=progress)
        except BaseException:
            for found in tried:
                self._chooser.forget(found)
            raise

    def remove(self, name: str) -> ModelRef:
        """Remove an installed model. Raises ModelInUse, UnknownModel."""
        ref = parse_ref(name)
        folders = [f for f in self._installed_names() if ref.matches(parse_ref(f))]
        if len(folders) != 1:
            raise UnknownModel(self._why_not_removed(ref, folders))
        exact = parse_ref(folders[0])
        choices, _ = self._roles.read()
        for role, choice in choices.items():
            if choice.model.matches(exact):
                raise ModelInUse(
                    f"{exact} is the model of {role}; choose another first: "
                    f"`funasr-agent models use {role}=ID`"
                )
        with disk_errors_told(self._settings.state):
            for role, choice in choices.items():
                if choice.previous == exact:
                    self._roles.choose(role, choice.model, None)
            self._take_out(exact)
        return exact

    def verify(
        self, name: str = "", *, told: Callable[[ModelCheckup], None] | None = None
    ) -> list[ModelCheckup]:
        """Look at one model, or at all (which is recorded), on all levels and at its speed."""
        with disk_errors_told(self._settings.state):
            return self._inspection.verify(name, told=told)

    def check_roles(self) -> list[ModelCheckup]:
        """For each role, its models in order up to the one that would serve. Nothing is kept."""
        return self._inspection.check_roles({role: self.order(role) for role in ROLES})

    def memory_needed_mb(self, found: FoundModel) -> int:
        """What a model needs to be loaded, by its manifest and by what was measured here."""
        choice, stated_mb = self._chooser.remembered(found), found.manifest.requires.memory_mb
        return choice.need_mb(stated_mb) if choice else stated_mb

    def abort(self) -> None:
        """End the trials at work; whatever they were for is refused. Called at a stop."""
        self._gate.abort()

    # Below.

    @cached_property
    def _chooser(self) -> Chooser:
        return Chooser(
            self._book,
            self._settings.state / "derived",
            self._disk,
            provider=self._settings.provider,
            fingerprint={**fingerprint(), "gpu_settings": str(self._gpu_settings())},
            gpu=lambda: self._gpu,
        )

    def _gpu_settings(self) -> dict[str, int]:
        """A proof counts for the GPU and the limit that it was made with."""
        engine = next(iter(self._settings.engine.values()), EngineSettings())
        return asdict(engine.gpu)

    @cached_property
    def _gpu(self) -> Gpu:
        if not has_gpu():
            return Gpu(False, "there is no NVIDIA GPU")
        if problem := package_problem():
            return Gpu(False, problem)
        with self._gate.open() as trials:
            reason = trials.probe("cuda", timeout_s=_GPU_LIMIT_S)
        return Gpu(not reason, reason)

    def _installer(self, tried: list[FoundModel]) -> Installer:
        """`tried` gets what is proven."""
        return Installer(
            self.library.installed,
            self._disk,
            max_bytes=self._settings.max_bundle_bytes,
            keys=self._keys,
            prove=lambda folder: self._prove_folder(folder, tried),
        )

    def _take_out(self, exact: ModelRef) -> None:
        self._installer([]).remove(str(exact))
        self._book.forget(exact)
        self._disk.remove(self._settings.state / "derived" / str(exact))

    def _first_here(self, role: Role) -> ModelRef | None:
        for name in self.order(role):
            if name == NO_MODEL:
                return ModelRef(NO_MODEL)
            try:
                return self.library.find(parse_ref(name)).ref
            except ModelError:
                continue
        return None

    def _prove_folder(self, folder: Path, tried: list[FoundModel]) -> None:
        """For the installer: a staged model, named by its id."""
        manifest = read_manifest(folder)
        if manifest.id == NO_MODEL or manifest.id.startswith(EMBEDDED_PREFIX):
            raise BundleError(
                f"the id {manifest.id!r} is the agent's own; a model needs another one (for a "
                "folder of a FunASR export: `models install FOLDER --id ID`)",
                file=folder.name,
            )
        found = FoundModel(ModelRef(manifest.id, manifest.sha8), manifest, folder, True)
        tried.append(found)
        try:
            self._prove(found, fresh=True)
        except ModelError as error:
            raise renamed(error, f"{manifest.id} is refused: {error.message}") from None

    def _prove(self, found: FoundModel, *, fresh: bool = False) -> ProviderChoice:
        role: Role = found.manifest.task  # type: ignore[assignment]
        require_fit(found.manifest, role)
        engine = self._settings.engine.get(role, EngineSettings())
        with self._gate.open() as trials:
            return self._chooser.choose(role, found, engine, trials, fresh=fresh)

    def _installed_names(self) -> list[str]:
        """Folder names of installed models, readable or not."""
        return [
            model.name if isinstance(model, UnreadableModel) else str(model.ref)
            for model in self.models()
            if model.installed
        ]

    def _why_not_removed(self, ref: ModelRef, folders: Sequence[str]) -> str:
        if folders:
            return f"{ref} is installed {len(folders)} times: name one of {', '.join(folders)}"
        if ref.id in EMBEDDED:
            return f"{ref.id} comes with the agent and stays, to serve when nothing else does"
        return f"{ref} is not installed; `funasr-agent models list` shows what is"


def renamed(refusal: ModelError | Refusal, message: str) -> ModelError:
    """An error of the same code and level in other words."""
    error = ModelError(message)
    error.code, error.level = refusal.code, refusal.level
    return error
