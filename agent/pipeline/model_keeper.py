"""The models of the running agent: loading, switching, installing; the owner of what serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, TypeVar

import psutil

from agent.engine.base import Tunable
from agent.errors import AgentError, ModelError, ModelInUse, ModelLoadError, StoreBusy
from agent.pipeline.service import TranscriptionService
from agent.said import say
from agent.store.box_memory import shares_memory
from agent.store.checkup import ModelCheckup
from agent.store.install import InstalledModel
from agent.store.loader import LoadedRole
from agent.store.model_set import LoadedModels
from agent.store.refs import ModelRef, parse_ref
from agent.store.roles import Role
from agent.store.store import ModelStore
from agent.types import ModelSet

_log = logging.getLogger(__name__)
T = TypeVar("T")

Prove = Callable[[ModelSet, LoadedModels], Awaitable[None]]
"""The canary: decodes a known clip with a set of models; whatever it raises refuses the set."""


@dataclass(frozen=True)
class Serving:
    """What the agent serves with, and why it does not suffice if it does not."""

    loaded: LoadedModels
    problem: str = ""
    store_problems: tuple[str, ...] = ()
    """What is wrong with the store itself, or was found by the last check of all models."""


class ModelKeeper:
    """Changes one thing at a time; streams that are open keep the models they started with."""

    def __init__(
        self,
        store: ModelStore,
        service: TranscriptionService,
        prove: Prove,
        changed: Callable[[Serving], None],
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called on the loop whenever other models serve; `hold` makes sure that no
        other process changes the store (raises StoreBusy)."""
        self.store = store
        self._service = service
        self._prove = prove
        self._changed = changed
        self._hold = hold
        self._busy = ""
        self._loaded: LoadedModels | None = None
        self._problem = ""
        self._ready: ModelSet | None = None
        self._problems: tuple[str, ...] = ()
        self._vad_settings: Mapping[str, Any] | None = None

    @property
    def loaded(self) -> LoadedModels | None:
        """What every role came to; None while the models are being loaded."""
        return self._loaded

    @property
    def busy(self) -> str:
        """What is being changed; empty when nothing is."""
        return self._busy

    async def load(self) -> None:
        """Verify and load the models of every role, and serve with them. Never raises for a
        model: an agent without a usable one says so."""
        loaded = await asyncio.to_thread(self.store.load_all)
        for role, refusals in loaded.refusals.items():
            for refusal in refusals:
                _log.error("%s: refused %s", role, refusal)
        try:
            models = loaded.model_set()
            await self._prove(models, loaded)
        except ModelLoadError as error:
            await self._refuse(loaded, error.message)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way; the page must serve
            _log.exception("the models were loaded but can't recognise")
            await self._refuse(loaded, f"the models fail when they run: {error}")
        else:
            await self._serve(loaded, models)

    async def switch(self, role: Role, name: str) -> LoadedRole:
        """Serve `role` with the model `name` from now on: proven, loaded, canary first.

        Raises ModelError (the old model keeps serving), StoreBusy, NotReady while starting.
        """
        return await self._change(f"switching {role}", lambda: self._switch(role, name))

    async def rollback(self, role: Role) -> LoadedRole:
        """Go back to the model that served before. Raises UnknownModel when there is none."""
        name = await asyncio.to_thread(self.store.previous, role)
        return await self.switch(role, name)

    async def install(
        self, stream: BinaryIO, progress: Callable[[int], None] | None = None
    ) -> tuple[InstalledModel, ...]:
        """Install a bundle; no role changes by it."""
        return await self._change(
            "installing a bundle",
            lambda: asyncio.to_thread(self.store.install, stream, progress=progress),
        )

    async def remove(self, name: str) -> ModelRef:
        """Remove an installed model. Raises ModelInUse for one that serves or was chosen."""
        wanted = parse_ref(name)
        for role, loaded in (self._loaded.roles if self._loaded else {}).items():
            if loaded.found is not None and loaded.found.installed and wanted.matches(loaded.ref):
                raise ModelInUse(f"{loaded.ref} serves {role}; choose another for it first")
        return await self._change(
            f"removing {name}", lambda: asyncio.to_thread(self.store.remove, name)
        )

    async def verify(self, name: str = "") -> list[ModelCheckup]:
        """Look at one model or at all of them, beside the streams."""
        checkups = await self._change(
            "verifying models", lambda: asyncio.to_thread(self.store.verify, name)
        )
        await self._tell()
        return checkups

    def tune_vad(self, overrides: Mapping[str, Any]) -> None:
        """Cut the speech of new streams by these settings (FunASR's names), also after a switch.

        Raises ModelError, and changes nothing, when the VAD in use can't take them.
        """
        if overrides == self._vad_settings:
            return
        if self._loaded is not None and self._ready is not None:
            loaded = self._use(self._loaded, self._ready, overrides)
            self._changed(Serving(loaded, "", self._problems))
        self._vad_settings = overrides

    async def _change(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        if self._busy:
            raise StoreBusy(f"the agent is {self._busy}; try again when it has finished")
        self._busy = what
        try:
            self._hold()
            return await work()
        finally:
            self._busy = ""

    async def _switch(self, role: Role, name: str) -> LoadedRole:
        before = self._loaded
        if before is None:
            raise StoreBusy("the agent is loading its models; try again when it has started")
        require_memory(self.store, name)
        new = await asyncio.to_thread(self.store.load_one, role, name)
        failures = {r: f for r, f in before.failures.items() if r != role}
        loaded = LoadedModels({**before.roles, role: new}, failures)
        models, lacking = _set_of(loaded)
        if models is not None:
            await self._require_song(models, loaded, role)
        old = before.roles.get(role)
        serving = None if old is None else old.ref
        await asyncio.to_thread(self.store.choose, role, str(new.ref), serving)
        if models is None:
            await self._refuse(loaded, lacking)
        else:
            await self._serve(loaded, models)
        _log.info("%s is served by %s from now on", role, new.ref)
        return new

    async def _require_song(self, models: ModelSet, loaded: LoadedModels, role: Role) -> None:
        try:
            await self._prove(models, loaded)
        except Exception as error:
            raise ModelError(
                f"{loaded.roles[role].ref} was loaded but fails beside the other models: "
                f"{type(error).__name__}: {error}; {role} keeps its model"
            ) from error

    async def _serve(self, loaded: LoadedModels, models: ModelSet) -> None:
        ready = await self._service.prepare(models)
        problems = await asyncio.to_thread(self._store_problems)
        self._ready, self._problem, self._problems = ready, "", problems
        try:
            loaded = self._use(loaded, ready, self._vad_settings)
        except ModelError as error:
            _log.error("the VAD serves with the settings that it was loaded with: %s", error)
            loaded = self._use(loaded, ready, None)
        self._changed(Serving(loaded, "", problems))

    def _use(
        self, loaded: LoadedModels, ready: ModelSet, overrides: Mapping[str, Any] | None
    ) -> LoadedModels:
        """In one step of the loop: whoever finds the agent ready finds its models named, too."""
        if overrides is not None and isinstance(ready.vad, Tunable):
            ready = replace(ready, vad=ready.vad.tuned(overrides))
            role = replace(loaded.roles["vad"], model=ready.vad)
            loaded = LoadedModels({**loaded.roles, "vad": role}, loaded.failures)
        self._loaded = loaded
        self._service.use(ready)
        return loaded

    async def _refuse(self, loaded: LoadedModels, reason: str) -> None:
        _log.error("nothing can be transcribed: %s", reason)
        self._loaded, self._problem, self._ready = loaded, reason, None
        self._service.unavailable(f"no usable model: {reason}")
        await self._tell()

    async def _tell(self) -> None:
        problems = await asyncio.to_thread(self._store_problems)
        if self._loaded is not None:
            self._changed(Serving(self._loaded, self._problem, problems))

    def _store_problems(self) -> tuple[str, ...]:
        problems = [self.store.roles_problem()]
        if last := self.store.last_check():
            told = "the check of {time}: {problem}"
            problems += [say("last_check", told, time=last[0], problem=p) for p in last[1]]
        return tuple(problem for problem in problems if problem)


def _set_of(loaded: LoadedModels) -> tuple[ModelSet | None, str]:
    """The models for sessions, or why there is no whole set yet: a box without any usable model
    is repaired one role after the other."""
    try:
        return loaded.model_set(), ""
    except ModelLoadError as error:
        return None, error.message


def require_memory(store: ModelStore, name: str) -> None:
    """Raises ModelError when a model needs more memory than is left beside what serves."""
    try:
        found = store.library.find(parse_ref(name))
    except AgentError:
        return  # whatever is wrong with it is said when it is loaded
    needed = store.memory_needed_mb(found)
    left = psutil.virtual_memory().available // 2**20
    if needed > left:
        shared = ", shared with the GPU" if shares_memory() else ""
        error = ModelError(
            f"{found.ref} needs {needed} MB beside the models in use, {left} MB are left{shared}; "
            "stop other programs, or choose it with the agent stopped"
        )
        error.code = "no_memory"
        raise error
