"""Live streams over the two lanes: the one way into recognition."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from agent.engine.session import SessionSettings
from agent.engine.together import Batchable
from agent.errors import InferenceError, NotReady, Overloaded
from agent.pipeline.admission import Admission, LoadLimits, LoadMeter, Step
from agent.pipeline.command_watch import CommandWatch
from agent.pipeline.history import FinalKeeper, NoHistory
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.observer import NoObserver, PipelineObserver, timed
from agent.pipeline.streams import EVENT_BOUND, FILE_SOURCE, MICROPHONE_SOURCE, LiveStream
from agent.types import ModelSet, StreamEvent, StreamOptions

__all__ = ["EVENT_BOUND", "Limits", "LiveStream", "TranscriptionService"]

_log = logging.getLogger(__name__)

Describe = Callable[[StreamEvent], tuple[str, dict[str, Any]]]
"""A stream's event as the hub publishes it: its type and its JSON fields."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the live streams."""

    max_sessions: int = 100
    buffer_ms: int = 2000
    load: LoadLimits = field(default_factory=LoadLimits)


class TranscriptionService:
    """Opens streams on the models in use."""

    def __init__(
        self,
        online: Lane,
        offline: Lane,
        hub: Hub,
        limits: Limits,
        settings: SessionSettings,
        describe: Describe,
        observer: PipelineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        history: FinalKeeper | None = None,
        commands: CommandWatch | None = None,
    ) -> None:
        self.online = online
        self.offline = offline
        self.hub = hub
        self.settings = settings
        self.describe = describe
        self.observer = observer or NoObserver()
        self.clock = clock
        self.history = history or NoHistory()
        self.commands = commands or CommandWatch()
        self.load = LoadMeter(online.workers, online.batch, limits.load, clock)
        online.tell(self.load.ran)
        self._limits = limits
        self._models: ModelSet | None = None
        self._not_ready = "the agent is starting"
        self._streams: dict[str, LiveStream] = {}
        self._stopping = False
        self._step = Step.EVERYTHING

    @property
    def sessions(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    @property
    def streams(self) -> tuple[LiveStream, ...]:
        """The streams that are open now, in the order of their opening."""
        return tuple(self._streams.values())

    @property
    def models(self) -> ModelSet | None:
        """The models that new streams get."""
        return self._models

    async def prepare(self, models: ModelSet) -> ModelSet:
        """The models, with hops of several streams in one run where that changes no number."""
        online = models.online
        if not isinstance(online, Batchable):
            return models
        try:
            prove = partial(online.proven_batch, self.online.batch)
            most = await self.online.run(prove) if self.online.batch > 1 else 1
        except InferenceError as error:
            _log.info("hops are not batched: %s", error)
            most = 1
        _log.info("hops of up to %d streams share a run", most)
        self.load.batch = most
        together = self.online.together if most > 1 else self.online.apart
        return replace(models, online=online.sharing(together))

    def use(self, models: ModelSet) -> None:
        """Serve new streams with `models`; open streams finish on theirs."""
        self._models = timed(models, self.observer, self.online.work_time)

    def limit(self, limits: Limits, settings: SessionSettings) -> None:
        """Other bounds, and other settings for the streams that are opened from now on."""
        self._limits, self.settings = limits, settings
        self.load.limits = limits.load

    def unavailable(self, reason: str) -> None:
        """Refuse new streams, saying why."""
        self._models, self._not_ready = None, reason

    async def open(self, options: StreamOptions, *, source: str) -> LiveStream:
        """A new stream. Raises NotReady without models, Overloaded at the bound or where it would
        make others late."""
        if self._stopping:
            raise NotReady("the agent is stopping")
        if self._models is None:
            raise NotReady(self._not_ready)
        own = source == MICROPHONE_SOURCE
        clients = sum(s.source != MICROPHONE_SOURCE for s in self._streams.values())
        if not own and clients >= self._limits.max_sessions:
            raise Overloaded(
                f"{self._limits.max_sessions} streams are open, the most that this box takes "
                "(stream.max_sessions); try again later"
            )
        got = Admission(options)
        if source != FILE_SOURCE:
            self.judge_load()
        if source != FILE_SOURCE and not own:
            got = self.load.admit(options)
        stream = LiveStream(self, self._models, got.options, source, self._limits.buffer_ms)
        stream.degraded = got.reasons
        self._streams[stream.session_id] = stream
        if stream.is_live:
            self.load.opened(stream.session_id, replace(got.options, mode=stream.mode))
        opened: dict[str, Any] = {
            "session_id": stream.session_id,
            "source": source,
            "name": options.wav_name,
        }
        if stream.degraded:
            opened["degraded"] = list(stream.degraded)
        self.hub.publish("session_opened", opened)
        said = {"session_id": stream.session_id}
        _log.info("stream opened: %s, mode %s", source, stream.mode.value, extra=said)
        return stream

    def judge_load(self) -> Step:
        """What a new stream gets now; published when it changes."""
        before, step = self._step, self.load.update()
        if step is not before:
            self._step = step
            says = {"step": step.name.lower(), "reason": self.load.reason()}
            _log.log(
                logging.WARNING if step > before else logging.INFO,
                "load: %(step)s (%(reason)s)",
                says,
            )
            self.hub.publish("load", says)
        return step

    def closed(self, stream: LiveStream) -> None:
        """Called by a stream when its work has ended."""
        if self._streams.pop(stream.session_id, None) is not None:
            self.load.closed(stream.session_id)
            said = {"session_id": stream.session_id}
            _log.info("stream closed: %s", stream.source, extra=said)
            self.hub.publish(
                "session_closed", {"session_id": stream.session_id, "source": stream.source}
            )

    async def stop(self, timeout_s: float) -> None:
        """Take no new stream, let the open ones finish, drop what is left after the time."""
        self._stopping = True
        streams = list(self._streams.values())
        for stream in streams:
            await stream.finish()
        waiting = [asyncio.ensure_future(stream.wait_finished()) for stream in streams]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        for task in waiting:
            task.cancel()
        for stream in streams:
            await stream.aclose()
