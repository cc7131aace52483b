"""What the box says of itself; the `StatusSource` of `agent.web.context`."""

from __future__ import annotations

import platform
import time
from typing import Any

import psutil

from agent import __version__
from agent.live_config import LiveConfig
from agent.ops.canary import Canary
from agent.ops.checks import Checks
from agent.ops.command_hook import CommandHook
from agent.ops.hardware import hardware
from agent.ops.hardware_metrics import add_hardware_metrics
from agent.ops.health import HealthMonitor, HealthReport
from agent.ops.metrics import Metrics, ModelLabels
from agent.ops.microphone_metrics import add_microphone_metrics
from agent.ops.model_report import ModelReport
from agent.ops.trend import Sample, Trend
from agent.pipeline.history import History
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import Serving
from agent.pipeline.service import TranscriptionService
from agent.store.store import ModelStore


class AgentStatus:
    """Gathers the state of the parts; the models are with its `ModelReport`."""

    def __init__(
        self,
        live: LiveConfig,
        service: TranscriptionService,
        canary: Canary,
        metrics: Metrics,
        store: ModelStore,
        microphone: Microphone | None = None,
        history: History | None = None,
        hook: CommandHook | None = None,
    ) -> None:
        self._live = live
        self._service = service
        self._canary = canary
        self._metrics = metrics
        self._report = ModelReport(store)
        self._checks = Checks(live, service, canary, microphone, history, hook)
        self._microphone = microphone
        self._history = history
        self._hook = hook
        self._started = time.monotonic()
        self._monitor = HealthMonitor(
            [self._report.models_check, self._report.store_check, *self._checks.all()]
        )
        self.trend = Trend(self._sample)
        self._add_gauges()
        if microphone is not None:
            add_microphone_metrics(metrics, microphone)

    def serves(self, serving: Serving) -> None:
        """Other models serve, or more is known of them."""
        self._report.serves(serving)
        models = serving.loaded
        labels = {
            str(role): ModelLabels(r.id, r.variant.name if r.variant else "", r.provider)
            for role, r in models.roles.items()
            if r.model is not None
        }
        times = {str(role): r.load_time_s for role, r in models.roles.items()}
        self._metrics.use_models(labels, times)

    def report(self) -> HealthReport:
        """All health checks."""
        return self._monitor.report()

    def health(self) -> dict[str, Any]:
        """Body of /health."""
        return self.report().to_json()

    def can_transcribe(self) -> bool:
        """Whether a stream that starts now would be recognised."""
        return self._service.models is not None and self.stuck_lane() is None

    def ready(self) -> bool:
        """Whether a canary has been decoded by the models in use, recently."""
        age = self._canary.age_s
        fresh = age is not None and age <= self._live.current.health.canary_max_age_s
        return self.can_transcribe() and fresh and not self._canary.failure

    def live(self) -> bool:
        """Whether the process works: no lane is stuck."""
        return self.stuck_lane() is None

    def status(self) -> dict[str, Any]:
        """Body of /api/v1/status."""
        return {
            "name": platform.node(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "board": board_name(),
            "health": self.report().status.value,
            "models": self.models(),
            "itn": self._itn(),
            "sessions": {
                "open": self._service.sessions,
                "most": self._live.current.stream.max_sessions,
            },
            "load": self._service.load.to_json(),
            "microphone": self._microphone.status() if self._microphone else None,
            "history": self._history.status() if self._history else None,
            "commands": self._commands(),
            "hardware": hardware(),
        }

    def models(self) -> list[dict[str, Any]]:
        """The model of each role, and what was refused before it."""
        return self._report.rows()

    def _itn(self) -> dict[str, Any]:
        """Whether numbers are rewritten for streams that ask for it, and why not."""
        itn = self._service.settings.itn
        problem = "it is not set up" if itn is None else itn.problem
        return {"available": not problem, "reason": problem or None}

    def _commands(self) -> dict[str, Any]:
        """Spoken commands in force, and what they set off."""
        hook = self._hook.status() if self._hook else None
        return {"names": list(self._service.commands.names), "hook": hook}

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Body and content type of /metrics."""
        return self._metrics.render(accept)

    def stuck_lane(self) -> str | None:
        """Which lane has not answered within `inference.job_limit_s`, in words."""
        return self._checks.stuck_lane()

    def _sample(self, now: float) -> Sample:
        load = self._service.load.to_json()
        late = self._service.load.seen_late()
        return Sample(
            round(now, 1),
            psutil.cpu_percent(None),
            round(100 * load["load_with_one_more"], 1),
            self._service.sessions,
            *(None if seconds is None else round(1000 * seconds, 1) for seconds in late),
        )

    def _sharing(self) -> float:
        totals = self._service.online.totals
        return totals.items / totals.runs if totals.runs else 0.0

    def _add_gauges(self) -> None:
        service, metrics = self._service, self._metrics
        lanes = (service.online, service.offline)
        metrics.gauge("sessions", "Open streams", lambda: service.sessions)
        metrics.gauge("viewers", "Event sockets", lambda: service.hub.subscriptions)
        metrics.gauge("ready", "1 when a canary was decoded recently", lambda: float(self.ready()))
        jobs = {lane.name: (lambda lane=lane: float(lane.waiting)) for lane in lanes}
        ages = {lane.name: (lambda lane=lane: lane.age_s) for lane in lanes}
        metrics.gauges("queue_jobs", "Jobs waiting or at work", "lane", jobs)
        metrics.gauges("lane_job_age_seconds", "Age of the job at work", "lane", ages)
        metrics.gauge(
            "load",
            "Share of the online lane that open streams and one more need when all speak",
            lambda: service.load.pressure().load,
        )
        metrics.gauge(
            "load_step",
            "What new streams get: 0 everything, 1 no second pass, 2 longer hops, 3 nothing",
            lambda: float(service.load.step),
        )
        metrics.gauge(
            "hops_a_run", "Hops that shared a run of a graph, mean since the start", self._sharing
        )
        add_hardware_metrics(metrics)


def board_name() -> str:
    """The board by its device tree, else the machine's architecture."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return f"{platform.system()} {platform.machine()}"
