"""The composition root."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.app import Agent
from agent.config import Config
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
