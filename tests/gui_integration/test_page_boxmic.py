"""The page and the box's own microphone: what it hears is read, mute and gain work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import soundfile
from playwright.async_api import expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import RATE, OpenPage
from tests.sound import FifoMicrophone

CLIP = "tests/data/clips/zh-2.wav"


async def test_the_page_shows_what_the_box_hears_and_mutes_it(
    root: Path, tmp_path: Path, open_page: OpenPage
) -> None:
    fifo = FifoMicrophone(tmp_path)
    clip = soundfile.read(root / CLIP, dtype="int16")[0]
    quiet = np.zeros(RATE, np.int16)
    settings = ("microphone.enabled=true", "microphone.ring_ms=20000")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon:
        visit = await open_page(daemon.url, arguments=())
        await expect(visit.page.locator("#boxmic")).to_be_visible()
        await asyncio.to_thread(fifo.play, np.concatenate([quiet, clip, quiet, quiet]))
        await visit.wait_finals(1)
        assert (await visit.finals())[0].strip()
        await visit.page.click("#boxmic-mute")
        await asyncio.to_thread(fifo.play, quiet)
        await expect(visit.page.locator("#boxmic-mute")).to_have_text("Unmute")
        await visit.page.locator("#boxmic-gain").fill("6")
        await expect(visit.page.locator("#boxmic-gain-text")).to_have_text("+6 dB")
        told = {}
        for _ in range(100):
            told = daemon.get("/api/v1/microphone")[1]
            if told["gain_db"] == 6:
                break
            await asyncio.sleep(0.05)
        assert (told["muted"], told["gain_db"]) == (True, 6)
        assert visit.console_errors == []
        fifo.close()


async def test_the_page_turns_the_box_s_microphone_on_and_off(
    tmp_path: Path, open_page: OpenPage
) -> None:
    fifo = FifoMicrophone(tmp_path)
    settings = (f"microphone.device={fifo.name}", "microphone.stall_ms=60000")
    with Daemon(tmp_path, *settings, environ=fifo.environ) as daemon:
        visit = await open_page(daemon.url, arguments=())
        switch, state = (visit.page.locator(f"#boxmic-{name}") for name in ("switch", "state"))
        await expect(switch).to_have_text("Turn on")
        await expect(state).to_have_text("Off")
        for part in ("mute", "gain", "level"):
            await expect(visit.page.locator(f"#boxmic-{part}")).to_be_hidden()
        await switch.click()
        await expect(switch).to_have_text("Turn off")
        await asyncio.to_thread(fifo.play, np.zeros(RATE, np.int16))
        await expect(state).to_have_text("Listening", timeout=30_000)
        await expect(visit.page.locator("#boxmic-mute")).to_be_visible()
        await switch.click()
        await expect(state).to_have_text("Off")
        assert daemon.get("/api/v1/microphone")[1]["enabled"] is False
        assert visit.console_errors == []
        fifo.close()
