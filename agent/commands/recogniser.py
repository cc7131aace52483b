"""Models and sessions for `transcribe`: synchronous, in this process, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.assembly import model_store, session_settings
from agent.config import Config
from agent.engine.session import Session
from agent.errors import CompatibilityError, StreamFailed
from agent.store.model_set import LoadedModels
from agent.store.refs import parse_ref
from agent.store.roles import ROLES, Role
from agent.store.store import ModelStore
from agent.types import (
    Int16,
    ModelSet,
    RecognitionMode,
    SpeechSegment,
    StreamError,
    StreamEvent,
    StreamOptions,
    Transcript,
)

Item = StreamEvent | SpeechSegment


class SessionLike(Protocol):
    """What is used of `agent.engine.session.Session`."""

    def accept(self, samples: Int16) -> Sequence[Item]: ...

    def finish(self) -> Sequence[Item]: ...

    def decode(self, segment: SpeechSegment) -> Transcript: ...


OpenSession = Callable[[StreamOptions, str], SessionLike]


@dataclass(frozen=True)
class Recogniser:
    """Opens one session a file on models that are loaded once."""

    ids: Mapping[str, str]
    """Role -> id of the models in use."""
    mode: RecognitionMode
    open_session: OpenSession

    def open(self, name: str) -> FileSession:
        """A fresh session for the file `name`."""
        options = StreamOptions(mode=self.mode, wav_name=name)
        return FileSession(self.open_session(options, name))


class FileSession:
    """Takes blocks of 16 kHz mono and gives the finals that they complete."""

    def __init__(self, session: SessionLike) -> None:
        self._session = session

    def accept(self, samples: Int16) -> list[Transcript]:
        """Take the next samples [n]. Raises StreamFailed."""
        return self._finals(self._session.accept(samples))

    def finish(self) -> list[Transcript]:
        """End the file: the finals still open."""
        return self._finals(self._session.finish())

    def _finals(self, items: Iterable[Item]) -> list[Transcript]:
        finals = []
        for item in items:
            if isinstance(item, SpeechSegment):
                finals.append(self._session.decode(item))
            elif isinstance(item, Transcript) and item.is_final:
                finals.append(item)
            elif isinstance(item, StreamError):
                raise StreamFailed(item.message)
        return finals


def load_recogniser(
    config: Config,
    model: str | None,
    warn: Callable[[str], None],
    *,
    store: ModelStore | None = None,
) -> Recogniser:
    """Load what `transcribe` needs: VAD, the offline recogniser, punctuation.

    The streaming recogniser serves where no offline one can be used. `model` replaces the
    configured lists. Every refusal is handed to `warn`. Raises ModelError.
    """
    store = store or model_store(config)
    lists: dict[Role, list[str]] = {role: store.order(role) for role in ROLES}
    spare = lists.pop("asr_online")
    if model is not None:
        task = store.library.find(parse_ref(model)).manifest.task
        if task not in ("asr_offline", "asr_online"):
            raise CompatibilityError(f"{model} is a model for {task}, it reads no speech")
        lists["asr_offline"] = [model] if task == "asr_offline" else []
        spare = [] if task == "asr_offline" else [model]
    loaded = store.load(lists)
    if "asr_offline" not in loaded.roles and spare:
        online = store.load({"asr_online": spare})
        loaded = LoadedModels(
            {**loaded.roles, **online.roles}, {**loaded.failures, **online.failures}
        )
    models = loaded.model_set()
    for role, refusals in loaded.refusals.items():
        for refusal in refusals:
            warn(f"warning: {role}: {refusal}")
    if model is None and models.offline is None and "asr_offline" in loaded.failures:
        warn(f"warning: {loaded.ids['asr_online']} (asr_online) reads instead, less exactly")
    mode = RecognitionMode.ONLINE if models.offline is None else RecognitionMode.OFFLINE
    return Recogniser(dict(models.ids), mode, _opener(config, models))


def _opener(config: Config, models: ModelSet) -> OpenSession:
    settings = session_settings(config)

    def open_session(options: StreamOptions, session_id: str) -> SessionLike:
        return Session(models, options, settings, session_id)

    return open_session
