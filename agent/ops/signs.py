"""The vital signs of the agent, for `agent.ops.supervisor`."""

from __future__ import annotations

from collections.abc import Callable

from agent.live_config import LiveConfig
from agent.ops.health import Status
from agent.ops.status import AgentStatus
from agent.pipeline.model_keeper import ModelKeeper
from agent.pipeline.service import TranscriptionService

_HEADS = {
    Status.STARTING: "Starting",
    Status.FAILING: "Can't transcribe",
}


def no_microphone() -> bool:
    """The sign of an agent without a microphone of its own."""
    return True


class AgentSigns:
    """Reads the parts; `microphone`: whether it delivers or is known to be reopening."""

    def __init__(
        self,
        status: AgentStatus,
        service: TranscriptionService,
        keeper: ModelKeeper,
        live: LiveConfig,
        microphone: Callable[[], bool] = no_microphone,
    ) -> None:
        self._status = status
        self._service = service
        self._keeper = keeper
        self._live = live
        self._microphone = microphone

    def loaded(self) -> bool:
        """Whether the models were loaded, or found to be unusable."""
        return self._keeper.loaded is not None

    def stuck(self) -> str | None:
        """Which lane does not answer."""
        return self._status.stuck_lane()

    def hears(self) -> bool:
        """Whether the microphone is well, or being seen to."""
        return self._microphone()

    def says(self) -> str:
        """One line: whether it transcribes, for how many, and what is wrong."""
        report = self._status.report()
        if self._status.can_transcribe():
            open_now = self._service.sessions
            streams = f"{open_now} stream{'s' if open_now != 1 else ''} open"
            head = f"Transcribing, {streams}" if open_now else "Ready to transcribe"
        else:
            head = _HEADS.get(report.status, "Can't transcribe")
        reasons = [check.reason for check in report.checks if check.status is not Status.OK]
        if self._live.restart:
            reasons.append(f"needs a restart: {', '.join(self._live.restart)}")
        return f"{head}: {'; '.join(reasons)}" if reasons else head
