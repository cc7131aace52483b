"""The whole application on a real socket, over fake models."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from agent.config import Config
from agent.engine.session import SessionSettings
from agent.live_config import LiveConfig
from agent.ops.trend import Sample, Trend
from agent.pipeline.history import History
from agent.pipeline.hub import Hub
from agent.pipeline.lanes import Lane
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import ModelKeeper, Serving
from agent.pipeline.resume import StreamRegistry
from agent.pipeline.service import Limits, TranscriptionService
from agent.protocols.events import describe
from agent.store.model_set import LoadedModels
from agent.types import ModelSet
from agent.web.access import Access
from agent.web.application import build_application
from agent.web.context import WebContext
from tests.fake_store import FakeTrials, fake_store
from tests.fakes import fake_models

FAMILIES: dict[str, Any] = {
    "fsmn_vad": fake_models().vad,
    "paraformer": fake_models().offline,
    "paraformer_online": fake_models().online,
}
"""What the store of the tests loads for a family."""


class FakeStatus:
    """Says what the test sets."""

    def __init__(self) -> None:
        self.usable = True
        self.trend = Trend(lambda now: Sample(now, 0, 0, 0, None, None))

    def health(self) -> dict[str, Any]:
        return {"status": "ok" if self.usable else "failing", "checks": []}

    def can_transcribe(self) -> bool:
        return self.usable

    def ready(self) -> bool:
        return self.usable

    def live(self) -> bool:
        return self.usable

    def status(self) -> dict[str, Any]:
        return {"version": "test"}

    def models(self) -> list[dict[str, Any]]:
        return [{"role": "vad", "id": "v"}, {"role": "asr_offline", "id": "o"}]

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"x 1\n", "text/plain; version=0.0.4"


class Box:
    """The application and the parts behind it."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.live = LiveConfig(config)
        self.status = FakeStatus()
        self.shipped, self.state = folder / "models", folder / "state"
        self.trials = FakeTrials()
        self.families = dict(FAMILIES)
        self.online = Lane("online", 8)
        self.offline = Lane("offline", 8)
        self.history = History(self.state / "transcripts.db", config.history)
        self.service = TranscriptionService(
            self.online,
            self.offline,
            Hub(config.events.history, config.events.client_queue),
            Limits(config.stream.max_sessions, config.stream.buffer_ms),
            SessionSettings(),
            describe,
            history=self.history,
        )
        self.service.use(fake_models())
        self.streams = StreamRegistry(
            self.service, config.stream.resume_s, config.stream.resume_events
        )
        self.store = fake_store(
            self.shipped,
            self.state,
            {"vad": ["ears"], "asr_offline": ["slow"]},
            trials=self.trials,
            load_model=lambda family, files, settings: self.families[family],
            max_bundle_bytes=config.models.max_bundle_mb << 20,
        )
        self.access: Access | None = None
        self.serving: list[Serving] = []
        self.keeper = ModelKeeper(self.store, self.service, self.sing, self.serving.append)
        self.client: TestClient[Any, Any]

    async def sing(self, models: ModelSet, loaded: LoadedModels) -> None:
        """The canary of the tests: always well."""

    async def start(self) -> None:
        self.online.start()
        self.offline.start()
        self.history.start()
        context = WebContext(
            self.live,
            self.service,
            self.streams,
            self.service.hub,
            self.status,
            self.keeper,
            time.time(),
            Microphone(
                self.live.current.microphone,
                self.service,
                self.service.hub,
                self.state / "microphone.json",
            ),
            self.history,
        )
        self.context = context
        self.client = TestClient(TestServer(build_application(context, self.access)))
        await self.client.start_server()

    async def stop(self) -> None:
        await self.client.close()
        await self.service.stop(5)
        await self.streams.stop()
        await self.online.close(5)
        await self.offline.close(5)
        await self.history.close()


@pytest.fixture
def settings() -> dict[str, Any]:
    """Overridden by tests that need other settings."""
    return {}


@pytest_asyncio.fixture
async def box(settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Box]:
    made = Box(Config.model_validate(settings), tmp_path)
    await made.start()
    yield made
    await made.stop()
