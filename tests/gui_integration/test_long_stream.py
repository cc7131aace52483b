"""Half an hour of speech on one page, over a network that breaks: nothing is lost, nothing grows.

FUNASR_SOAK_S=600 makes it shorter. FUNASR_SCREENS=docs/screens makes pictures of a box at work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.async_api import CDPSession

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import OpenPage, until
from tests.gui_integration.cutting_proxy import CuttingProxy
from tests.gui_integration.test_cut_proxy import conversation
from tests.model_loading.tables import add_row

LENGTH_S = float(os.environ.get("FUNASR_SOAK_S", "1800"))
LOOK_S = 30.0
CUT_EVERY_S = 41.0
WARM = 3
"""Looks before the first that counts: fonts, caches and compiled code have come by then."""
NODES_A_ROW = 8
"""A row is a list item with a time and a text."""
SLACK_NODES = 300
HEAP_MB = 12
"""Growth that would mean that the page keeps its audio: half an hour is 57 MB."""
BOX_MB = 120


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as running:
        yield running


async def look(cdp: CDPSession, rows: int, pid: int) -> dict[str, float]:
    """How large the page and the daemon are now, garbage aside."""
    await cdp.send("HeapProfiler.collectGarbage")
    told: dict[str, Any] = await cdp.send("Performance.getMetrics")
    found = {metric["name"]: metric["value"] for metric in told["metrics"]}
    return {
        "rows": rows,
        "nodes": found["Nodes"],
        "listeners": found["JSEventListeners"],
        "heap_mb": found["JSHeapUsedSize"] / 2**20,
        "box_mb": psutil.Process(pid).memory_info().rss / 2**20,
    }


@pytest.mark.soak
@pytest.mark.timeout(LENGTH_S + 300)
async def test_half_an_hour_with_cuts_loses_nothing_and_the_page_stays_small(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    wav, _ = conversation(tmp_path, LENGTH_S + 120)
    port = int(daemon.url.rpartition(":")[2])
    looks: list[dict[str, float]] = []
    async with CuttingProxy(port) as proxy:
        visit = await open_page(proxy.url, wav=wav)
        page = visit.page
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable")
        await visit.talk()
        await visit.state("listening", "speech")
        finals = page.locator('[data-segment-id][data-final="true"]')
        begun = cut_at = time.monotonic()
        while time.monotonic() - begun < LENGTH_S:
            await asyncio.sleep(LOOK_S)
            looks.append(await look(cdp, await finals.count(), daemon.pid))
            if time.monotonic() - cut_at >= CUT_EVERY_S:
                await until(lambda: proxy.live > 0)
                wanted, cut_at = proxy.cuts + 1, time.monotonic()
                proxy.cut()
                await until(lambda wanted=wanted: proxy.cuts == wanted)  # type: ignore[misc]
        if folder := os.environ.get("FUNASR_SCREENS"):
            await page.set_viewport_size({"width": 1200, "height": 900})
            await visit.state("speech")
            await page.screenshot(path=f"{folder}/live.png")
            await page.click("#nav-device")
            await page.locator("#checks li").first.wait_for()
            await page.screenshot(path=f"{folder}/device.png", full_page=True)
            await page.click("#nav-live")
        await visit.talk()
        await visit.state("idle", timeout_s=60)
        shown = await visit.finals()
        assert await page.locator("[data-gap]").count() == 0
        assert await page.locator('[data-final="false"]').count() == 0
        assert proxy.cuts >= LENGTH_S / (CUT_EVERY_S + LOOK_S) - 1
    status, kept = await asyncio.to_thread(daemon.get, "/api/v1/transcripts?limit=10000")
    assert status == 200
    rows = sorted(kept["transcripts"], key=lambda row: row["id"])
    assert len({row["session"]["id"] for row in rows}) == 1
    assert shown == [row["text"] for row in rows]
    for at in range(0, len(looks), max(1, len(looks) // 10)):
        line = {name: f"{value:.1f}" for name, value in looks[at].items()}
        add_row(
            "long stream", (f"{(at + 1) * LOOK_S:.0f} s", *(f"{k} {v}" for k, v in line.items()))
        )
    first, last = looks[min(WARM, len(looks) - 1)], looks[-1]
    new_rows = last["rows"] - first["rows"]
    assert last["nodes"] - first["nodes"] <= NODES_A_ROW * new_rows + SLACK_NODES
    assert last["listeners"] <= first["listeners"] + 20
    assert last["heap_mb"] - first["heap_mb"] < HEAP_MB
    assert last["box_mb"] - first["box_mb"] < BOX_MB
