"""`inference.memory` reaches every model."""

from __future__ import annotations

import pytest

from agent.assembly import engine_settings
from agent.config import Config, Inference


@pytest.mark.parametrize(("memory", "low"), [("normal", False), ("low", True)])
def test_every_role_is_run_in_the_memory_mode_that_is_configured(memory: str, low: bool) -> None:
    config = Config(inference=Inference.model_validate({"memory": memory, "offline_threads": 3}))
    settings = engine_settings(config)
    assert {entry.low_memory for entry in settings.values()} == {low}
    assert settings["asr_offline"].threads == settings["punctuation"].threads == 3
    assert settings["vad"].vad["max_single_segment_time"] == 60000
