"""Reload: the configuration is read again; a bad one is refused and the old one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent.config import Config
from agent.errors import AgentError, ConfigError
from agent.live_config import LiveConfig
from agent.ops.systemd import Notifier

_log = logging.getLogger(__name__)

ReadConfig = Callable[[], Config]
"""Reads every source again. Raises ConfigError."""


class Reloader:
    """Answers SIGHUP and `systemctl reload`. Open sessions keep what they started with."""

    def __init__(
        self,
        live: LiveConfig,
        read: ReadConfig,
        apply: Callable[[Config], Awaitable[None]],
        notifier: Notifier,
        is_ready: Callable[[], bool],
    ) -> None:
        """`apply` hands a configuration to the parts; it raises AgentError before it has changed
        anything. `is_ready`: whether the service manager was told that the start has ended."""
        self._live = live
        self._read = read
        self._apply = apply
        self._notifier = notifier
        self._is_ready = is_ready
        self._one = asyncio.Lock()

    async def reload(self) -> bool:
        """Read and take the configuration; False when it was refused."""
        async with self._one:
            told = self._is_ready() and self._notifier.reloading()
            try:
                return await self._reload()
            finally:
                if told:
                    self._notifier.ready()

    async def _reload(self) -> bool:
        try:
            change = self._live.plan(await asyncio.to_thread(self._read))
            await self._apply(change.config)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("reload refused: %s", problem)
            self._refuse("; ".join(str(problem) for problem in error.problems))
            return False
        except AgentError as error:
            _log.error("reload refused: %s", error.message)
            self._refuse(error.message)
            return False
        self._live.take(change)
        changed = ", ".join(change.live) or "nothing that can change without a restart"
        _log.info("configuration reloaded; changed: %s", changed)
        if change.restart:
            _log.warning("needs a restart: %s", ", ".join(change.restart))
        return True

    def _refuse(self, reason: str) -> None:
        _log.error("the configuration in force stays")
        self._live.refuse(reason)
