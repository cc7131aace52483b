"""The models of a running agent: the store is held for them, and they sing before they serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from agent.audio.media import MediaReader
from agent.errors import AgentError, StoreBusy
from agent.ops.canary import Canary
from agent.pipeline.lanes import Lane
from agent.pipeline.warm_up import warm_up
from agent.store.lock import StoreLock
from agent.store.model_set import LoadedModels
from agent.types import SAMPLE_RATE, Int16, ModelSet

_log = logging.getLogger(__name__)

STORE_WAIT_S = 30.0
"""Time that the start waits for a command that is changing the model store."""
STORE_RETRY_S = 0.5
CANARY_MS = 3000
"""Longest part of a golden clip that the canary decodes."""


class StoreHold:
    """The store's lock, kept from the first time it is free until `release`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._held = ExitStack()
        self._holds = False

    def take(self) -> None:
        """Keep other processes from changing the store. Raises StoreBusy, AgentError."""
        if not self._holds:
            self._held.enter_context(StoreLock(self._state_dir))
            self._holds = True

    async def wait(self) -> None:
        """Let a command finish its change; without the lock the agent serves all the same."""
        deadline = time.monotonic() + STORE_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(self.take)
            except StoreBusy as error:
                if time.monotonic() > deadline:
                    _log.warning("models are loaded beside a change: %s", error.message)
                    return None
                await asyncio.sleep(STORE_RETRY_S)
            except AgentError as error:
                _log.warning("models can't be changed: %s", error.message)
                return None

    def release(self) -> None:
        """Let others change the store."""
        self._held.close()
        self._holds = False


class Rehearsal:
    """What new models do in the agent's own lanes before they serve."""

    def __init__(self, canary: Canary, offline: Lane, longest_s: Callable[[], float]) -> None:
        """`longest_s`: the longest segment that is ever decoded, in seconds."""
        self._canary = canary
        self._offline = offline
        self._longest_s = longest_s

    async def sing(self, models: ModelSet, loaded: LoadedModels) -> None:
        """Decode a known clip; a GPU's recogniser also every length of audio that will come.

        Raises what the models raise.
        """
        clip = await asyncio.to_thread(canary_clip, loaded)
        await self._canary.prove(models, clip)
        offline = loaded.roles.get("asr_offline")
        if offline is not None and offline.provider not in ("", "cpu"):
            await warm_up(models, clip, self._offline, longest_s=self._longest_s())


def canary_clip(loaded: LoadedModels) -> Int16:
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
