"""The canary: a known clip decoded now and then, so that ready means recognising."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from agent.pipeline.lanes import Lane
from agent.types import Int16, ModelSet, StreamOptions

_log = logging.getLogger(__name__)


class Canary:
    """Decodes its clip with the models in use, on the lanes that streams use."""

    def __init__(
        self,
        online: Lane,
        offline: Lane,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._online = online
        self._offline = offline
        self.period_s = period_s
        """From one run to the next, seconds."""
        self._clock = clock
        self._last_success: float | None = None
        self._clip: Int16 = np.zeros(0, np.int16)
        self.failure = ""
        """Why the last run failed; empty after a success."""

    @property
    def age_s(self) -> float | None:
        """Seconds since the last success; None before the first."""
        return None if self._last_success is None else self._clock() - self._last_success

    async def sing(self, models: ModelSet, clip: Int16) -> None:
        """Decode the clip once. Raises what a model raises."""
        try:
            await self.prove(models, clip)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            raise

    async def prove(self, models: ModelSet, clip: Int16) -> None:
        """As `sing`, with models that do not serve yet: their failure says nothing of those that
        do."""
        await self._online.run(partial(_read_live, models, clip))
        await self._offline.run(partial(_read_whole, models, clip))
        self.failure, self._last_success, self._clip = "", self._clock(), clip

    async def keep_singing(self, models: Callable[[], ModelSet | None]) -> None:
        """Decode the last clip that was decoded, every period until cancelled; a failure is logged
        and kept."""
        while True:
            await asyncio.sleep(self.period_s)
            current = models()
            if current is None:
                continue
            try:
                await self.sing(current, self._clip)
            except Exception:  # noqa: BLE001 - kept in `failure`, shown by health
                _log.error("the canary was not decoded: %s", self.failure)


def _read_live(models: ModelSet, clip: Int16) -> None:
    vad = models.vad.start_stream()
    vad.accept(clip)
    vad.finish()
    if models.online is not None:
        stream = models.online.start_stream(StreamOptions())
        stream.accept(clip)
        stream.finish()


def _read_whole(models: ModelSet, clip: Int16) -> None:
    if models.offline is not None:
        models.offline.decode([clip], StreamOptions())
