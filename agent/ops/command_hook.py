"""What spoken commands set off: a program, a webhook, or both. Never in the way of speech: a
command is put into a bounded queue, and deliveries run beside the streams, each within a time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config_commands import CommandHook as HookSettings
from agent.ops.hook_failed import HookFailed
from agent.ops.hook_program import run_program
from agent.ops.hook_webhook import Webhook
from agent.said import say, say_all
from agent.types import CommandHeard

_log = logging.getLogger(__name__)

KINDS = ("exec", "webhook")
RETRY_S = 0.5
"""Before the second try of a webhook; each further wait is twice the last."""
RETRY_MOST_S = 10.0

Describe = Callable[[CommandHeard], tuple[str, dict[str, Any]]]
"""The event as `/api/v1/events` tells it."""
Count = Callable[[str, str], None]
"""Gets the kind of each delivery and its result: ok, failed or dropped."""


@dataclass(frozen=True)
class _Job:
    name: str
    data: bytes
    heard: float
    """By the hook's clock."""


class CommandHook:
    """The hooks of one box. Used on the loop only."""

    def __init__(
        self,
        settings: HookSettings,
        folder: Path,
        describe: Describe,
        count: Count | None = None,
        clock: Callable[[], float] = time.monotonic,
        retry_s: float = RETRY_S,
    ) -> None:
        """`folder`: where programs run."""
        self._retry_s = retry_s
        self._folder = folder
        self._describe = describe
        self._clock = clock
        self._webhook = Webhook()
        self._lines = {kind: _Line(kind, self._deliver, count, clock) for kind in KINDS}
        self.configure(settings)

    def configure(self, settings: HookSettings) -> None:
        """Other settings, from the next delivery on; a program that is not there is told."""
        self._settings = settings
        program = settings.exec[0] if settings.exec else ""
        self._lines["exec"].problem = ""
        if program and not os.access(program, os.X_OK):
            self._lines["exec"].problem = f"{program} is no program that can be run"
            _log.warning("command_hook.exec: %s", self._lines["exec"].problem)

    def fire(self, heard: CommandHeard, source: str) -> None:
        """Deliver a command; returns at once. What comes from a source that is not listed is
        passed over."""
        settings = self._settings
        if source not in settings.sources:
            return
        for kind, line in self._lines.items():
            if _is_set(settings, kind):
                line.put(self._job(heard, source), settings)

    async def close(self, timeout_s: float) -> None:
        """Let what runs end within the time, drop what waits; idempotent."""
        for line in self._lines.values():
            line.stop()
        running = [task for line in self._lines.values() for task in line.running]
        if running:
            await asyncio.wait(running, timeout=timeout_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._webhook.close()

    def status(self) -> dict[str, Any]:
        """For /api/v1/status: what is set, and how it goes."""
        return {
            kind: line.status() if _is_set(self._settings, kind) else None
            for kind, line in self._lines.items()
        }

    def trouble(self) -> str:
        """Why the last delivery failed, in words; empty when it went well."""
        said = [
            say("hook_failed", "{kind}: {problem}", kind=kind, problem=line.problem)
            for kind, line in self._lines.items()
            if line.problem and _is_set(self._settings, kind)
        ]
        return say_all(said) if said else ""

    def _job(self, heard: CommandHeard, source: str) -> _Job:
        kind, fields = self._describe(heard)
        body = {"type": kind, **fields, "source": source, "time": round(time.time(), 3)}
        data = json.dumps(body, ensure_ascii=False).encode()
        return _Job(heard.command.name, data, self._clock())

    async def _deliver(self, kind: str, data: bytes) -> None:
        settings = self._settings
        if kind == "exec" and settings.exec is not None:
            await run_program(settings.exec, data + b"\n", settings.timeout_s, self._folder)
        elif kind == "webhook" and settings.webhook is not None:
            await self._post(settings.webhook, data, settings)

    async def _post(self, url: str, data: bytes, settings: HookSettings) -> None:
        wait_s = self._retry_s
        for left in range(settings.retries, -1, -1):
            try:
                return await self._webhook.post(url, data, settings.timeout_s)
            except HookFailed as error:
                if not error.again or not left:
                    raise
                _log.info("webhook: %s; tried again in %g s", error, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_MOST_S, 2 * wait_s)
        return None


class _Line:
    """What waits for one kind of delivery, and what is on its way."""

    def __init__(
        self,
        kind: str,
        deliver: Callable[[str, bytes], Awaitable[None]],
        count: Count | None,
        clock: Callable[[], float],
    ) -> None:
        self._kind = kind
        self._deliver = deliver
        self._count = count
        self._clock = clock
        self._waiting: deque[_Job] = deque()
        self._settings = HookSettings()
        self._stopped = False
        self._results = {"ok": 0, "failed": 0, "dropped": 0}
        self.running: set[asyncio.Task[None]] = set()
        self.problem = ""
        """Of the last delivery; empty when it went well."""

    def put(self, job: _Job, settings: HookSettings) -> None:
        """Deliver it when its turn comes, by these settings."""
        self._settings = settings
        if self._stopped or len(self._waiting) >= settings.queue:
            self._drop(job, "the agent stops" if self._stopped else "too many wait")
            return
        self._waiting.append(job)
        self._go_on()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True
        while self._waiting:
            self._drop(self._waiting.popleft(), "the agent stops")

    def status(self) -> dict[str, Any]:
        return {
            "waiting": len(self._waiting),
            "running": len(self.running),
            **self._results,
            "problem": self.problem or None,
        }

    def _go_on(self) -> None:
        while self._waiting and len(self.running) < self._settings.concurrent:
            job = self._waiting.popleft()
            if self._clock() - job.heard > self._settings.expire_s:
                self._drop(job, f"it waited longer than {self._settings.expire_s:g} s")
                continue
            task = asyncio.create_task(self._run(job), name=f"hook-{self._kind}")
            self.running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not self._stopped:
            self._go_on()

    async def _run(self, job: _Job) -> None:
        try:
            await self._deliver(self._kind, job.data)
        except HookFailed as error:
            self.problem = str(error)
            _log.warning("%s of the command %s failed: %s", self._kind, job.name, error)
            self._add("failed")
        except Exception as error:  # noqa: BLE001 - one delivery fails, the next may not
            self.problem = f"{type(error).__name__}: {error}"
            _log.error("%s of the command %s failed", self._kind, job.name, exc_info=error)
            self._add("failed")
        else:
            self.problem = ""
            self._add("ok")

    def _drop(self, job: _Job, reason: str) -> None:
        self.problem = f"the command {job.name} was dropped: {reason}"
        _log.warning("%s: %s", self._kind, self.problem)
        self._add("dropped")

    def _add(self, result: str) -> None:
        self._results[result] += 1
        if self._count is not None:
            self._count(self._kind, result)


def _is_set(settings: HookSettings, kind: str) -> bool:
    return getattr(settings, kind) is not None
