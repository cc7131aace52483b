"""A stop of the agent ends the trials at work instead of waiting for them."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from agent.store.trial import TrialRequest, TrialRunner
from tests.fake_store import FakeTrials, fake_store

REQUEST = TrialRequest("/nowhere", "0" * 64, "vad", "fp32", "cpu")
HANG = (sys.executable, "-c", "import time; time.sleep(600)")


def test_an_aborted_trial_ends_at_once_and_is_no_crash() -> None:
    with TrialRunner(command=HANG) as runner:
        threading.Timer(0.3, runner.abort).start()
        started = time.monotonic()
        result = runner.run(REQUEST, timeout_s=300)
        assert time.monotonic() - started < 30
    assert result.code == "aborted"
    assert "the agent is stopping" in result.message


def test_after_an_abort_no_trial_starts() -> None:
    with TrialRunner(command=HANG) as runner:
        runner.abort()
        assert runner.run(REQUEST, timeout_s=300).code == "aborted"


def test_a_store_that_stops_aborts_the_trials_that_come(tmp_path: Path) -> None:
    trials = FakeTrials()
    store = fake_store(tmp_path / "models", tmp_path / "state", {"vad": []}, trials=trials)
    with store._gate.open():
        store.abort()
        assert trials.aborted
    trials.aborted = False
    with store._gate.open():
        assert trials.aborted
