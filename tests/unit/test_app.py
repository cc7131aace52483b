"""The composition root."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.app import Agent
from agent.config import Auth, Config, Recognition
from agent.live_config import LiveConfig


async def test_a_background_task_that_fails_is_logged_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("the disk is on fire")

    agent = Agent(LiveConfig(Config.model_validate({"state_dir": tmp_path})))
    agent.spawn("fire", broken())
    for _ in range(3):
        await asyncio.sleep(0)
    assert "the task fire ended by a failure" in caplog.text
    assert "the disk is on fire" in caplog.text
    await agent.stop()


async def test_a_reload_that_leaves_the_vad_alone_leaves_the_models_in_use_alone(
    root: Path, tmp_path: Path
) -> None:
    config = Config.model_validate({"state_dir": tmp_path, "listen": [{"port": 0}]})
    agent = Agent(LiveConfig(config))
    await agent.start()
    for _ in range(6000):
        if agent.service.models is not None:
            break
        await asyncio.sleep(0.01)
    models = agent.service.models
    assert models is not None
    await agent.apply(config.model_copy(update={"auth": Auth(mode="open")}))
    assert agent.service.models is models
    await agent.apply(
        config.model_copy(update={"recognition": Recognition(max_end_silence_ms=500)})
    )
    assert agent.service.models is not models
    await agent.stop()


async def test_a_reload_changes_what_new_streams_get(root: Path, tmp_path: Path) -> None:
    agent = Agent(LiveConfig(Config.model_validate({"state_dir": tmp_path})))
    settings = {
        "stream": {"max_sessions": 3, "late_ms": 500, "resume_s": 7, "resume_events": 20},
        "recognition": {"pre_roll_ms": 250},
        "health": {"canary_s": 5},
    }
    itn = agent.service.settings.itn
    await agent.apply(Config.model_validate({"state_dir": tmp_path, **settings}))
    assert agent.service.settings.pre_roll_ms == 250
    assert agent.service.settings.itn is itn  # its grammars are loaded once
    assert agent.service.load.limits.late_ms == 500
    assert agent._canary.period_s == 5
    await agent.stop()
