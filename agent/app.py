"""The composition root: the one place where the parts of the daemon meet."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.assembly import (
    command_matcher,
    engine_settings,
    model_store,
    session_settings,
    stream_limits,
)
from agent.config import Config
from agent.errors import AgentError
from agent.live_config import LiveConfig
from agent.model_start import Rehearsal, StoreHold
from agent.ops.canary import Canary
from agent.ops.command_hook import CommandHook
from agent.ops.logs import set_up_logging
from agent.ops.metrics import Metrics
from agent.ops.signs import AgentSigns
from agent.ops.status import AgentStatus
from agent.pipeline.command_watch import CommandWatch
from agent.pipeline.history import History
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane, usable_cores
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import ModelKeeper, Serving
from agent.pipeline.resume import StreamRegistry
from agent.pipeline.service import TranscriptionService
from agent.protocols.events import describe
from agent.web.context import WebContext
from agent.web.front import Front

_log = logging.getLogger(__name__)

LANE_STOP_S = 5.0
"""Time that a lane gets for the job at work when the daemon stops."""
LOOK_S = 10.0
"""How often the token's and the certificate's files are looked at."""


class Agent:
    """The running daemon. `start` opens the listeners first and loads the models behind them."""

    def __init__(self, live: LiveConfig, sockets: Sequence[socket.socket] = ()) -> None:
        """`sockets`: listening ones that were handed to this process; each listener of the
        configuration whose address one of them has is served there."""
        config = live.current
        self._live = live
        self._sockets = sockets
        self.hub = Hub(config.events.history, config.events.client_queue)
        self.metrics = Metrics()
        inference, stream = config.inference, config.stream
        self._online = Lane(
            "online",
            inference.queue,
            workers=inference.online_workers or max(1, usable_cores() // inference.online_threads),
            batch=inference.batch_hops,
        )
        self._offline = Lane("offline", inference.queue, nice=inference.offline_nice)
        self.history = History(config.state_dir / "transcripts.db", config.history)
        self.hook = CommandHook(
            config.command_hook, config.state_dir, describe, self.metrics.command_hook
        )
        self.commands = CommandWatch(command_matcher(config), self.metrics.command, self.hook.fire)
        self.service = TranscriptionService(
            self._online,
            self._offline,
            self.hub,
            stream_limits(config),
            session_settings(config),
            describe,
            self.metrics,
            history=self.history,
            commands=self.commands,
        )
        self.streams = StreamRegistry(self.service, stream.resume_s, stream.resume_events)
        self._canary = Canary(self._online, self._offline, config.health.canary_s)
        rehearsal = Rehearsal(
            self._canary, self._offline, lambda: live.current.recognition.max_segment_ms / 1000
        )
        self._hold = StoreHold(config.state_dir)
        store = model_store(config, beside_streams=True)
        self.keeper = ModelKeeper(
            store, self.service, rehearsal.sing, self._models_changed, self._hold.take
        )
        self.microphone = Microphone(
            config.microphone, self.service, self.hub, config.state_dir / "microphone.json"
        )
        self.status = AgentStatus(
            live,
            self.service,
            self._canary,
            self.metrics,
            store,
            self.microphone,
            self.history,
            self.hook,
        )
        self._front: Front | None = None
        self._opened = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> list[str]:
        """Open the listeners, begin to load the models; the addresses to open."""
        self._online.start()
        self._offline.start()
        self.history.start()
        context = WebContext(
            live=self._live,
            service=self.service,
            streams=self.streams,
            hub=self.hub,
            status=self.status,
            keeper=self.keeper,
            started=time.time(),
            microphone=self.microphone,
            history=self.history,
        )
        self._front = Front(context, self._sockets)
        addresses = await self._front.open()
        self._opened.set()
        loop = asyncio.get_running_loop()
        self.metrics.gauge("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        self.spawn("models", self._load_and_watch())
        self.spawn("health", self._tell_health())
        self._listening = self.spawn("microphone", self.microphone.run())
        self.spawn("token", self._front.watch_token(LOOK_S))
        self.spawn("certificate", self._front.watch_certificate(LOOK_S))
        return addresses

    def addresses_with_token(self) -> list[str]:
        """Where other machines open the page, signed in by the address; for its owner's eyes."""
        return self._front.invitations() if self._front is not None else []

    async def stop(self) -> None:
        """Flush finals, close the sockets, end the lanes."""
        if self._front is not None:
            self._front.leave()
        self.keeper.store.abort()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            await self.microphone.stop(self._live.current.shutdown.timeout_s)
        if self._front is not None:
            await self._front.close()
        await self.service.stop(self._live.current.shutdown.timeout_s)
        await self.streams.stop()
        await self.hook.close(self._live.current.shutdown.timeout_s)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in (self._online, self._offline):
            await lane.close(LANE_STOP_S)
        await self.history.close()
        self._hold.release()

    def signs(self) -> AgentSigns:
        """What a supervisor looks at."""
        return AgentSigns(self.status, self.service, self.keeper, self._live, self.microphone.alive)

    async def apply(self, config: Config) -> None:
        """Hand the live keys of a configuration to the parts that hold them; open streams keep
        what they have. Raises AgentError, with nothing changed, for what a part can't take: a
        port, a certificate, settings of the VAD."""
        matcher = command_matcher(config)
        change = None
        if self._front is not None:
            await self._opened.wait()
            change = await self._front.prepare(config)
        vad, before_vad = (_vad_settings(which) for which in (config, self._live.current))
        try:
            if vad != before_vad:  # a session of the microphone ends where its models do
                self.keeper.tune_vad(vad)
        except AgentError:
            if change is not None:
                await change.abort()
            raise
        if change is not None:
            change.commit()
        before = self.service.settings
        settings = replace(before, pre_roll_ms=config.recognition.pre_roll_ms)
        self.service.limit(stream_limits(config), settings)
        self.streams.keep(config.stream.resume_s, config.stream.resume_events)
        self._canary.period_s = config.health.canary_s
        self.commands.use(matcher)
        self.hook.configure(config.command_hook)
        await self.microphone.use(config.microphone)
        set_up_logging(config.logging)

    def spawn(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or the agent stops; its failure is logged by name."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_failure)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load_and_watch(self) -> None:
        """Load the models off the loop, prove them, then keep the canary going."""
        await self._hold.wait()
        await self.keeper.load()
        # What lives as long as the process is taken out of the collector's sight: it then looks
        # at what streams leave behind more often, and memory stays level.
        gc.collect()
        gc.freeze()
        await self._canary.keep_singing(lambda: self.service.models)

    def _models_changed(self, serving: Serving) -> None:
        self.status.serves(serving)
        self.hub.publish("models", {"models": self.status.models()})
        if not serving.problem:
            ids = serving.loaded.ids.items()
            _log.info("ready: %s", ", ".join(f"{role} {model}" for role, model in ids))

    async def _tell_health(self) -> None:
        """Publish the health whenever it changes."""
        last: object = None
        while True:
            self.status.trend.look()
            report = self.status.health()
            if report != last:
                self.hub.publish("health", report)
                last = report
            await asyncio.sleep(1.0)


def _vad_settings(config: Config) -> Mapping[str, Any]:
    return engine_settings(config)["vad"].vad


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the task %s ended by a failure", task.get_name(), exc_info=error)
