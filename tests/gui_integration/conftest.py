"""A real browser whose microphone plays a file."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Browser, Page, async_playwright, expect

from agent.types import Int16
from tests.gui_integration.fake_agent import FakeAgent

expect.set_options(timeout=30_000)  # as long as waits elsewhere: five seconds are few on a busy box

RATE = 16000
POLL_S = 0.005
COMMON_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
)
ALLOW_MICROPHONE = "--use-fake-ui-for-media-stream"


@dataclass
class Visit:
    """A page, and what it did that one might not want."""

    page: Page
    console_errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def state(self, *wanted: str, timeout_s: float = 20) -> None:
        """Wait until body[data-state] is one of `wanted`."""
        selector = ", ".join(f'body[data-state="{state}"]' for state in wanted)
        await self.page.wait_for_selector(selector, timeout=timeout_s * 1000)

    async def talk(self) -> None:
        await self.page.click("#talk")

    async def wait_finals(self, count: int, timeout_s: float = 30) -> None:
        """Wait until the page shows this many finals."""
        rows = self.page.locator('[data-segment-id][data-final="true"]')
        await rows.nth(count - 1).wait_for(timeout=timeout_s * 1000)

    async def finals(self) -> list[str]:
        rows = self.page.locator('[data-segment-id][data-final="true"] .text')
        return await rows.all_text_contents()


OpenPage = Callable[..., Awaitable[Visit]]


@lru_cache
def missing_browser() -> str | None:
    """Why there is no usable Chromium, or None. `--version` fails where a stub is installed."""
    path = find_chromium()
    if path is None:
        return "no chromium on this machine (apt install chromium, or set CHROMIUM)"
    probe = subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False)
    return None if probe.returncode == 0 else f"{path} --version fails"


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture
async def open_page() -> AsyncIterator[OpenPage]:
    """open_page(url, wav=None, arguments=..., init_script="") -> Visit."""
    if reason := missing_browser():
        pytest.skip(reason)
    async with AsyncExitStack() as stack:

        async def open_one(
            url: str,
            *,
            wav: Path | None = None,
            arguments: tuple[str, ...] = (ALLOW_MICROPHONE,),
            init_script: str = "",
        ) -> Visit:
            browser = await stack.enter_async_context(_browser(wav, arguments))
            page = await (await browser.new_context()).new_page()
            visit = Visit(page)
            page.on(
                "console",
                lambda m: visit.console_errors.append(m.text) if m.type == "error" else None,
            )
            page.on("pageerror", lambda error: visit.console_errors.append(str(error)))
            page.on("request", lambda request: visit.requests.append(request.url))
            page.on("websocket", lambda socket: visit.requests.append(socket.url))
            if init_script:
                await page.add_init_script(init_script)
            await page.goto(url)
            await visit.state("idle", "blocked")
            return visit

        yield open_one


@asynccontextmanager
async def _browser(wav: Path | None, arguments: tuple[str, ...]) -> AsyncIterator[Browser]:
    extra = [f"--use-file-for-fake-audio-capture={wav}%noloop"] if wav else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=[*COMMON_ARGUMENTS, *arguments, *extra]
        )
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def fake_agent() -> AsyncIterator[FakeAgent]:
    async with FakeAgent() as agent:
        yield agent


async def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Poll until `condition()`; AssertionError after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(POLL_S)


def tones(*spans_ms: tuple[int, int], total_ms: int) -> Int16:
    """Chirps in silence, int16 at 16 kHz: each span is start and end in ms. Never periodic, so
    that an alignment with it is unique."""
    audio = np.zeros(total_ms * RATE // 1000)
    for start, end in spans_ms:
        t = np.arange((end - start) * RATE // 1000) / RATE
        sweep = np.sin(2 * np.pi * (200 * t + 300 * t**2))
        audio[start * RATE // 1000 : end * RATE // 1000] = 0.4 * sweep
    return (audio * 32767).astype(np.int16)


@pytest.fixture
def chirps(tmp_path: Path) -> Path:
    """Two chirps, 1.0 to 2.2 s and 3.2 to 4.0 s, then silence up to 6 s."""
    return write_wav(tmp_path / "chirps.wav", tones((1000, 2200), (3200, 4000), total_ms=6000))


def write_wav(path: Path, samples: Int16) -> Path:
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path
