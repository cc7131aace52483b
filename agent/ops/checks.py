"""The health checks of the parts that serve streams; `agent.ops.model_report` has the models'."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.live_config import LiveConfig
from agent.ops.canary import Canary
from agent.ops.command_hook import CommandHook
from agent.ops.health import Finding, Status
from agent.pipeline.admission import Step
from agent.pipeline.history import History
from agent.pipeline.microphone import Microphone
from agent.pipeline.service import TranscriptionService
from agent.said import say

_STEPS = {
    Step.ONE_PASS: say("step_one_pass", "new streams get no second pass"),
    Step.LONGER_HOP: say(
        "step_longer_hop", "new streams get no second pass and partials half as often"
    ),
    Step.NOTHING: say("step_nothing", "new streams are refused"),
}


class Checks:
    """What is looked at, and what is said of it."""

    def __init__(
        self,
        live: LiveConfig,
        service: TranscriptionService,
        canary: Canary,
        microphone: Microphone | None,
        history: History | None,
        hook: CommandHook | None,
    ) -> None:
        self._live = live
        self._service = service
        self._canary = canary
        self._microphone = microphone
        self._history = history
        self._hook = hook

    def all(self) -> list[Callable[[], Sequence[tuple[str, Finding]]]]:
        """In the order in which they are shown."""
        return [
            self._lanes_check,
            self._load_check,
            self._canary_check,
            self._config_check,
            self._microphone_check,
            self._history_check,
            self._commands_check,
        ]

    def stuck_lane(self) -> str | None:
        """Which lane has not answered within `inference.job_limit_s`, in words."""
        limit = self._live.current.inference.job_limit_s
        for lane in (self._service.online, self._service.offline):
            if lane.silent_s > limit:
                said = "the {lane} lane has not answered for {s} s"
                return say("lane_silent", said, lane=lane.name, s=round(lane.silent_s))
        return None

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
