"""The device view of a Jetson, whose hardware tells more than another box's."""

from __future__ import annotations

import json

from playwright.async_api import Route, expect

from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.fake_agent import STATUS, FakeAgent

HARDWARE = {
    "cpu_percent": 12.0,
    "cores": 6,
    "cpu_mhz": 1510,
    "memory_total_mb": 7620,
    "memory_available_mb": 3072,
    "memory_shared_with_gpu": True,
    "gpu_memory_mb": 1024,
    "disk_free_mb": 9000,
    "process_mb": 300,
    "temperature_c": 54.0,
    "throttled": ["slowed down against heat (gpu-throttle-alert)"],
    "gpu_percent": 42.5,
    "gpu_mhz": 306,
    "gpu_limit_mhz": 612,
    "power_mode": "power mode 15W; MAXN_SUPER gives more (sudo nvpmodel -m 2)",
    "power_events": {"low voltage": 0, "average current too high": 4},
}


async def test_the_device_view_tells_memory_power_mode_clock_and_events(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)

    async def answer(route: Route) -> None:
        body = json.dumps({**STATUS, "hardware": HARDWARE, "uptime_s": 60})
        await route.fulfill(body=body, content_type="application/json")

    async def trend(route: Route) -> None:
        await route.fulfill(body='{"samples": []}', content_type="application/json")

    await visit.page.route("**/api/v1/status", answer)
    await visit.page.route("**/api/v1/trend", trend)
    await visit.page.click("#nav-device")
    shown = visit.page.locator("#hardware")
    for words in (
        "3072 of 7620 MB free · shared with the GPU · 1024 MB held by it",
        "43 % · 306 / 612 MHz",
        "15W; MAXN_SUPER gives more (sudo nvpmodel -m 2)",
        "average current too high: 4",
        "slowed down against heat (gpu-throttle-alert)",
    ):
        await expect(shown).to_contain_text(words, timeout=20_000)
    await expect(shown).not_to_contain_text("low voltage")
