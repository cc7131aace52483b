"""A service over fake models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from agent.engine.session import SessionSettings
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.observer import NoObserver
from agent.pipeline.service import Limits, TranscriptionService
from agent.types import StreamEvent
from tests.fakes import fake_models


class CountingObserver(NoObserver):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.partials: list[float] = []
        self.finals: list[float] = []
        self.lost: list[float] = []
        self.failures = 0
        self.roles: set[str] = set()

    def inference(self, role: str, seconds: float, audio_s: float) -> None:
        self.roles.add(role)

    def partial_latency(self, seconds: float) -> None:
        self.partials.append(seconds)

    def final_latency(self, seconds: float) -> None:
        self.finals.append(seconds)

    def dropped(self, seconds: float) -> None:
        self.lost.append(seconds)

    def stream_failed(self) -> None:
        self.failures += 1


def describe(event: StreamEvent) -> tuple[str, dict[str, object]]:
    return type(event).__name__, {"session_id": event.session_id}


@pytest_asyncio.fixture
async def service() -> AsyncIterator[TranscriptionService]:
    online, offline = Lane("online", 8), Lane("offline", 8)
    online.start()
    offline.start()
    made = TranscriptionService(
        online,
        offline,
        Hub(100, 100),
        Limits(max_sessions=3, buffer_ms=1000),
        SessionSettings(),
        describe,
        CountingObserver(),
    )
    made.use(fake_models())
    yield made
    await asyncio.wait_for(made.stop(5), 20)
    await online.close(5)
    await offline.close(5)
