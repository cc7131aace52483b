"""docs/grafana-dashboard.json asks for metrics that /metrics has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.config import Config
from agent.live_config import LiveConfig
from agent.ops.metrics import ModelLabels

FILE = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


async def served(folder: Path) -> set[str]:
    """Names of all series of a scrape."""
    agent = Agent(LiveConfig(Config.model_validate({"state_dir": folder})))
    labels = {role: ModelLabels("m", "int8", "cpu") for role in ("vad", "asr_offline")}
    agent.metrics.use_models(labels, {"vad": 1.0})
    agent.metrics.inference("vad", 0.1, 1.0)
    body = agent.status.metrics("text/plain")[0].decode()
    await agent.stop()
    return {re.split(r"[{ ]", line)[0] for line in body.splitlines() if not line.startswith("#")}


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


async def test_every_metric_of_the_dashboard_is_served(
    dashboard: dict[str, Any], tmp_path: Path
) -> None:
    names = await served(tmp_path)
    for query in queries(dashboard):
        asked = set(re.findall(r"([a-z_]+)\{", query))
        assert asked, query
        assert asked - names == set(), query


def test_panels_do_not_overlap_and_have_their_own_ids(dashboard: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, panel["title"]
                cells.add((x, y))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
