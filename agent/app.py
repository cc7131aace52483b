"""The composition root: the one place where the parts of the daemon meet."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import time
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from aiohttp import web

from agent.assembly import model_store, session_settings
from agent.audio.media import MediaReader
from agent.config import Config
from agent.errors import AgentError, StoreBusy
from agent.ops.canary import Canary
from agent.ops.logs import set_up_logging
from agent.ops.metrics import Metrics
from agent.ops.status import AgentStatus
from agent.pipeline.admission import LoadLimits
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane, usable_cores
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import ModelKeeper, Serving
from agent.pipeline.resume import StreamRegistry
from agent.pipeline.service import Limits, TranscriptionService
from agent.protocols.events import describe
from agent.store.lock import StoreLock
from agent.store.model_set import LoadedModels
from agent.types import SAMPLE_RATE, Int16, ModelSet
from agent.web.access import Access, open_access
from agent.web.application import build_application
from agent.web.certificates import CertificateKeeper
from agent.web.context import WebContext
from agent.web.doorkeeper import make_runner
from agent.web.listeners import open_listeners, open_local_socket
from agent.web.sign_in import watch_token

_log = logging.getLogger(__name__)

LANE_STOP_S = 5.0
"""Time that a lane gets for the job at work when the daemon stops."""
STORE_WAIT_S = 30.0
"""Time that the start waits for a command that is changing the model store."""
STORE_RETRY_S = 0.5
LOOK_S = 10.0
"""How often the token's and the certificate's files are looked at."""
CANARY_MS = 3000
"""Longest part of a golden clip that the canary decodes."""


def run(config: Config, *, tell_token: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises ConfigError when a port is taken.

    `tell_token`: print the addresses for other machines with the token, for a person to open.
    """
    set_up_logging(config.logging)
    _take_all_files()
    return asyncio.run(_serve(config, tell_token))


async def _serve(config: Config, tell_token: bool) -> int:
    agent = Agent(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        for address in await agent.start():
            _log.info("open %s", address)
            print(f"funasr-agent: open {address}", flush=True)
        for address in agent.addresses_with_token() if tell_token else ():
            print(f"funasr-agent: from other machines open {address}", flush=True)
        await stop.wait()
        _log.info("stopping: finals of open streams are flushed")
    finally:
        await agent.stop()
    return 0


class Agent:
    """The running daemon. `start` opens the listeners first and loads the models behind them."""

    def __init__(self, config: Config) -> None:
        self._config = config
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
        load = LoadLimits(stream.max_load, stream.late_ms, stream.final_late_ms, stream.degrade)
        self.service = TranscriptionService(
            self._online,
            self._offline,
            self.hub,
            Limits(stream.max_sessions, stream.buffer_ms, load),
            session_settings(config),
            describe,
            self.metrics,
        )
        self.streams = StreamRegistry(
            self.service, config.stream.resume_s, config.stream.resume_events
        )
        self._canary = Canary(self._online, self._offline, config.health.canary_s)
        store = model_store(config, beside_streams=True)
        self.keeper = ModelKeeper(
            store, self.service, self._sing, self._models_changed, self._hold_store
        )
        self.microphone = Microphone(
            config.microphone, self.service, self.hub, config.state_dir / "microphone.json"
        )
        self.status = AgentStatus(
            config, self.service, self._canary, self.metrics, store, self.microphone
        )
        self._held = ExitStack()
        self._holds_store = False
        self._access: Access | None = None
        self._certificates: CertificateKeeper | None = None
        self._runner: web.AppRunner | None = None
        self._socket: Path | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> list[str]:
        """Open the listeners, begin to load the models; the addresses to open."""
        self._online.start()
        self._offline.start()
        context = WebContext(
            config=self._config,
            service=self.service,
            streams=self.streams,
            hub=self.hub,
            status=self.status,
            keeper=self.keeper,
            started=time.time(),
            microphone=self.microphone,
        )
        self._access = open_access(self._config)
        if any(listener.tls for listener in self._config.listen):
            self._certificates = CertificateKeeper(self._config)
            await asyncio.to_thread(self._certificates.load)
        app = build_application(context, self._access, self._certificates)
        self._runner = make_runner(app, self._config.stream.max_sessions)
        await self._runner.setup()
        addresses = await open_listeners(self._runner, self._config, self._certificates)
        self._access.serves(addresses)
        self._socket = await open_local_socket(self._runner, self._config)
        loop = asyncio.get_running_loop()
        self.metrics.gauge("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        self._spawn("models", self._load_and_watch())
        self._spawn("health", self._tell_health())
        self._listening = self._spawn("microphone", self.microphone.run())
        self._spawn("token", watch_token(app, LOOK_S))
        if self._certificates is not None:
            self._spawn("certificate", self._certificates.watch(LOOK_S))
        return addresses

    def addresses_with_token(self) -> list[str]:
        """Where other machines open the page, signed in by the address; for its owner's eyes."""
        return self._access.invitations() if self._access is not None else []

    async def stop(self) -> None:
        """Flush finals, close the sockets, end the lanes."""
        if self._socket is not None:
            # While it is still ours: later it could be that of the next agent.
            with suppress(OSError):
                self._socket.unlink()
        self.keeper.store.abort()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            await self.microphone.stop(self._config.shutdown.timeout_s)
        if self._runner is not None:
            await self._runner.cleanup()
        await self.service.stop(self._config.shutdown.timeout_s)
        await self.streams.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in (self._online, self._offline):
            await lane.close(LANE_STOP_S)
        self._held.close()

    def _spawn(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_failure)
        self._tasks.append(task)
        return task

    def _hold_store(self) -> None:
        """Keep other processes from changing the store. Raises StoreBusy, AgentError."""
        if not self._holds_store:
            self._held.enter_context(StoreLock(self._config.state_dir))
            self._holds_store = True

    async def _await_store(self) -> None:
        """Let a command finish its change; without the lock the agent serves all the same."""
        deadline = time.monotonic() + STORE_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(self._hold_store)
            except StoreBusy as error:
                if time.monotonic() > deadline:
                    _log.warning("models are loaded beside a change: %s", error.message)
                    return None
                await asyncio.sleep(STORE_RETRY_S)
            except AgentError as error:
                _log.warning("models can't be changed: %s", error.message)
                return None

    async def _load_and_watch(self) -> None:
        """Load the models off the loop, prove them, then keep the canary going."""
        await self._await_store()
        await self.keeper.load()
        # What lives as long as the process is taken out of the collector's sight: it then looks
        # at what streams leave behind more often, and memory stays level.
        gc.collect()
        gc.freeze()
        await self._canary.keep_singing(lambda: self.service.models)

    async def _sing(self, models: ModelSet, loaded: LoadedModels) -> None:
        clip = await asyncio.to_thread(_canary_clip, loaded)
        await self._canary.prove(models, clip)

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
            report = self.status.health()
            if report != last:
                self.hub.publish("health", report)
                last = report
            await asyncio.sleep(1.0)


def _take_all_files() -> None:
    """As many open files as the system allows: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the task %s ended by a failure", task.get_name(), exc_info=error)


def _canary_clip(loaded: LoadedModels) -> Int16:
    """Golden audio of a recogniser in use, shape [n]; a second of silence where none has one."""
    for role in ("asr_offline", "asr_online"):
        entry = loaded.roles.get(role)
        if entry is None or entry.found is None or entry.found.manifest.golden is None:
            continue
        path = entry.found.folder / entry.found.manifest.golden.audio
        with suppress(AgentError, OSError):
            blocks = list(MediaReader(path).blocks())
            return np.concatenate(blocks)[: CANARY_MS * SAMPLE_RATE // 1000]
    return np.zeros(SAMPLE_RATE, np.int16)
