"""What the web application is made of; filled by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from agent.config import Config
from agent.live_config import LiveConfig
from agent.pipeline.history import History
from agent.pipeline.hub import Hub
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import ModelKeeper
from agent.pipeline.resume import StreamRegistry
from agent.pipeline.service import TranscriptionService


class TrendSource(Protocol):
    """The last hour."""

    def to_json(self) -> dict[str, Any]:
        """Body of /api/v1/trend."""


class StatusSource(Protocol):
    """What the box says of itself."""

    def health(self) -> dict[str, Any]:
        """Body of /health."""

    def can_transcribe(self) -> bool:
        """Whether a stream that starts now would be recognised."""

    def ready(self) -> bool:
        """Whether a canary has been decoded by the models in use, recently."""

    def live(self) -> bool:
        """Whether the process works."""

    def status(self) -> dict[str, Any]:
        """Body of /api/v1/status."""

    def models(self) -> list[dict[str, Any]]:
        """Body of /api/v1/models."""

    @property
    def trend(self) -> TrendSource:
        """Load and latency of the last hour."""

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Body and content type of /metrics."""


@dataclass(frozen=True)
class WebContext:
    """The parts that handlers use."""

    live: LiveConfig
    service: TranscriptionService
    streams: StreamRegistry
    hub: Hub
    status: StatusSource
    keeper: ModelKeeper
    started: float
    """UNIX time of the start."""
    microphone: Microphone | None = None
    history: History | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.live.current


CONTEXT: web.AppKey[WebContext] = web.AppKey("context", WebContext)
