"""What the box says of itself; the `StatusSource` of `agent.web.context`."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from agent import __version__
from agent.live_config import LiveConfig
from agent.ops.canary import Canary
from agent.ops.command_hook import CommandHook
from agent.ops.hardware import hardware
from agent.ops.hardware_metrics import add_hardware_metrics
from agent.ops.health import Finding, HealthMonitor, HealthReport, Status
from agent.ops.metrics import Metrics, ModelLabels
from agent.ops.microphone_metrics import add_microphone_metrics
from agent.ops.trend import Sample, Trend
from agent.pipeline.admission import Step
from agent.pipeline.history import History
from agent.pipeline.microphone import Microphone
from agent.pipeline.model_keeper import Serving
from agent.pipeline.service import TranscriptionService
from agent.said import say, say_all
from agent.store.loader import LoadedRole, Refusal
from agent.store.model_set import LoadedModels
from agent.store.store import ModelStore

_REQUIRED = ("vad",)
_STEPS = {
    Step.ONE_PASS: say("step_one_pass", "new streams get no second pass"),
    Step.LONGER_HOP: say(
        "step_longer_hop", "new streams get no second pass and partials half as often"
    ),
    Step.NOTHING: say("step_nothing", "new streams are refused"),
}


class AgentStatus:
    """Gathers the state of the parts; owner of what was loaded."""

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
        self._store = store
        self._microphone = microphone
        self._history = history
        self._hook = hook
        self._loaded: LoadedModels | None = None
        self._problem = ""
        self._store_problems: Sequence[str] = ()
        self._started = time.monotonic()
        self._monitor = HealthMonitor(
            [
                self._models_check,
                self._store_check,
                self._lanes_check,
                self._load_check,
                self._canary_check,
                self._config_check,
                self._microphone_check,
                self._history_check,
                self._commands_check,
            ]
        )
        self.trend = Trend(self._sample)
        self._add_gauges()
        if microphone is not None:
            add_microphone_metrics(metrics, microphone)

    def serves(self, serving: Serving) -> None:
        """Other models serve, or more is known of them."""
        models = serving.loaded
        self._loaded, self._problem = models, serving.problem
        self._store_problems = serving.store_problems
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
        if self._loaded is None:
            return []
        rows = [self._role_row(loaded) for loaded in self._loaded.roles.values()]
        for role, failure in self._loaded.failures.items():
            rows.append(
                {
                    "role": role,
                    "id": None,
                    "state": "no usable model",
                    "refused": _refused(failure.refusals),
                }
            )
        return rows

    def _itn(self) -> dict[str, Any]:
        """Whether numbers are rewritten for streams that ask for it, and why not."""
        itn = self._service.settings.itn
        problem = "it is not set up" if itn is None else itn.problem
        return {"available": not problem, "reason": problem or None}

    def _commands(self) -> dict[str, Any]:
        """Spoken commands in force, and what they set off."""
        hook = self._hook.status() if self._hook else None
        return {"names": list(self._service.commands.names), "hook": hook}

    def _role_row(self, loaded: LoadedRole) -> dict[str, Any]:
        choice = loaded.chosen.choice if loaded.chosen else None
        return {
            "role": loaded.role,
            "id": loaded.id,
            "ref": str(loaded.ref),
            "family": loaded.manifest.family if loaded.manifest else None,
            "variant": loaded.variant.name if loaded.variant else None,
            "provider": loaded.provider or None,
            "sha256": loaded.sha256 or None,
            "pinned": self._store.is_pinned(loaded.found) if loaded.found else None,
            "load_time_s": round(loaded.load_time_s, 3),
            "state": "in use",
            "refused": _refused(loaded.refusals),
            "choice": choice.to_json() if choice else None,
            **_parameters(loaded.model),
        }

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Body and content type of /metrics."""
        return self._metrics.render(accept)

    def stuck_lane(self) -> str | None:
        """Which lane has not answered within `inference.job_limit_s`, in words."""
        limit = self._live.current.inference.job_limit_s
        for lane in (self._service.online, self._service.offline):
            if lane.silent_s > limit:
                said = "the {lane} lane has not answered for {s} s"
                return say("lane_silent", said, lane=lane.name, s=round(lane.silent_s))
        return None

    def _models_check(self) -> Sequence[tuple[str, Finding]]:
        if self._loaded is None:
            starting = say("models_loading", "models are being verified and loaded")
            return [("models", Finding(Status.STARTING, starting))]
        found: list[tuple[str, Finding]] = []
        if self._problem:
            problem = say("models_problem", "{text}", text=self._problem)
            found.append(("models", Finding(Status.FAILING, problem)))
        for role, loaded in self._loaded.roles.items():
            name = f"model_{role}"
            if loaded.model is None and not loaded.refusals:
                found.append((name, Finding(Status.OK, say("model_none", "no model is set"))))
            elif loaded.refusals:
                reason = say(
                    "model_in_place",
                    "{id} serves in place of a refused model: {reasons}",
                    id=loaded.id,
                    reasons=[_with_level(refusal) for refusal in loaded.refusals],
                )
                found.append((name, Finding(Status.DEGRADED, reason)))
            else:
                found.append((name, Finding(Status.OK, self._serves(loaded))))
        for role, failure in self._loaded.failures.items():
            status = Status.FAILING if role in _REQUIRED else Status.DEGRADED
            reasons = [_with_level(refusal) for refusal in failure.refusals]
            unusable = say("role_unusable", "{text}", text=failure.message, reasons=reasons)
            found.append((f"model_{role}", Finding(status, unusable)))
        return found

    def _serves(self, loaded: LoadedRole) -> str:
        if loaded.found is None or self._store.is_pinned(loaded.found):
            return say("model_serves", "{id} serves", id=loaded.id)
        unpinned = "{id} serves (unpinned: its hashes are not on the list of known models)"
        return say("model_unpinned", unpinned, id=loaded.id)

    def _store_check(self) -> Sequence[tuple[str, Finding]]:
        """What the store says of itself, and what the last `models verify` found."""
        problems = self._store_problems
        if problems:
            return [("model_store", Finding(Status.DEGRADED, say_all(problems)))]
        well = say("store_well", "no model is known to be damaged or slow")
        return [("model_store", Finding(Status.OK, well))]

    def _lanes_check(self) -> Sequence[tuple[str, Finding]]:
        stuck = self.stuck_lane()
        if stuck is not None:
            return [("inference", Finding(Status.FAILING, stuck))]
        return [("inference", Finding(Status.OK, say("lanes_answer", "both lanes answer")))]

    def _load_check(self) -> Sequence[tuple[str, Finding]]:
        step = self._service.judge_load()
        if step is Step.EVERYTHING:
            well = say("load_well", "a new stream gets all that it asks for")
            return [("load", Finding(Status.OK, well))]
        cause = self._service.load.cause()
        said = say("load_high", "{step}: {cause}", step=_STEPS[step], cause=cause)
        return [("load", Finding(Status.DEGRADED, said))]

    def _canary_check(self) -> Sequence[tuple[str, Finding]]:
        if self._service.models is None:
            return []
        age, limit = self._canary.age_s, self._live.current.health.canary_max_age_s
        if self._canary.failure:
            why = self._canary.failure
            finding = Finding(
                Status.FAILING, say("canary_failed", "the canary failed: {why}", why=why)
            )
        elif age is None:
            yet = say("canary_not_yet", "no canary has been decoded yet")
            finding = Finding(Status.STARTING, yet)
        elif age > limit:
            late = say("canary_late", "no canary was decoded in the last {s:g} s", s=limit)
            finding = Finding(Status.DEGRADED, late)
        else:
            finding = Finding(Status.OK, say("canary_well", "a canary was decoded recently"))
        return [("canary", finding)]

    def _config_check(self) -> Sequence[tuple[str, Finding]]:
        live = self._live
        finding = Finding(Status.OK, say("config_well", "as its sources say"))
        if live.refusal:
            refused = "the last reload was refused, the one before it is in force: {why}"
            finding = Finding(Status.DEGRADED, say("config_refused", refused, why=live.refusal))
        elif live.restart:
            said = say("config_restart", "needs a restart: {keys}", keys=", ".join(live.restart))
            finding = Finding(Status.OK, said)
        return [("configuration", finding)]

    def _microphone_check(self) -> Sequence[tuple[str, Finding]]:
        microphone = self._microphone
        if microphone is None or not microphone.enabled:
            return []
        trouble = microphone.trouble()
        status = Status.DEGRADED if trouble else Status.OK
        return [("microphone", Finding(status, trouble or microphone.reason))]

    def _history_check(self) -> Sequence[tuple[str, Finding]]:
        history = self._history
        if history is None:
            return []
        trouble = history.trouble()
        well = say("history_well", "finals are kept")
        if not history.enabled:
            well = say("history_off", "it is off: not a word is kept")
        status = Status.DEGRADED if trouble else Status.OK
        return [("history", Finding(status, trouble or well))]

    def _commands_check(self) -> Sequence[tuple[str, Finding]]:
        names = self._service.commands.names
        if not names:
            return []
        trouble = self._hook.trouble() if self._hook else ""
        status = Status.DEGRADED if trouble else Status.OK
        well = say("commands_heard", "{n} are listened for", n=len(names))
        return [("commands", Finding(status, trouble or well))]

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


def _refused(refusals: Sequence[Refusal]) -> list[Mapping[str, str]]:
    return [{"id": r.id, "level": r.level, "code": r.code, "message": r.message} for r in refusals]


def _parameters(model: Any) -> dict[str, Any]:
    """What the model was told beside its weights, and whether hotwords change what it reads."""
    shown = {}
    if (parameters := getattr(model, "parameters", None)) is not None:
        shown["parameters"] = parameters.to_json()
    if (can_bias := getattr(model, "can_bias", None)) is not None:
        shown["hotwords"] = can_bias
    return shown


def _with_level(refusal: Refusal) -> str:
    fields = {"id": refusal.id, "message": refusal.message}
    if refusal.level == "integrity":
        return say("refused_integrity", "{id}: {message} (level: integrity)", **fields)
    if refusal.level == "compatibility":
        return say("refused_compatibility", "{id}: {message} (level: compatibility)", **fields)
    if refusal.level == "function":
        return say("refused_function", "{id}: {message} (level: function)", **fields)
    return say("refused", "{id}: {message}", **fields)


def board_name() -> str:
    """The board by its device tree, else the machine's architecture."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return f"{platform.system()} {platform.machine()}"
