"""Names that clients choose stay text on the page of somebody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import OpenPage

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


async def speak(url: str) -> None:
    """A FunASR client with hostile names."""
    async with aiohttp.ClientSession() as http, http.ws_connect(url + "/ws") as link:
        start = {"mode": "2pass", "wav_name": HOSTILE, "hotwords": f"{HOSTILE} 20"}
        await link.send_json({**start, "wav_format": "pcm", "audio_fs": 16000})
        data = (CLIPS / "en-1.wav").read_bytes()[44:]
        for at in range(0, len(data), 1 << 16):
            await link.send_bytes(data[at : at + (1 << 16)])
        await link.send_json({"is_speaking": False})
        while not (await link.receive_json(timeout=30))["is_final"]:
            continue


async def test_markup_in_names_of_files_clips_and_hotwords_stays_text(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    wav = tmp_path / f"{HOSTILE.replace('/', '')}.wav"
    shutil.copy(CLIPS / "en-1.wav", wav)
    visit = await open_page(daemon.url)
    await speak(daemon.url)
    await expect(visit.page.locator(".section h3")).to_contain_text(HOSTILE)
    await visit.page.click("#nav-files")
    await visit.page.set_input_files("#files-input", wav)
    await visit.page.wait_for_selector('[data-file="done"]')
    assert wav.name in await visit.page.inner_text("#view-files")
    assert await visit.page.locator('img[src="x"]').count() == 0
    assert await visit.page.title() != "owned"
    assert visit.console_errors == []


async def test_markup_that_got_in_would_not_run(daemon: Daemon, open_page: OpenPage) -> None:
    visit = await open_page(daemon.url)
    await visit.page.evaluate(
        "html => { document.body.insertAdjacentHTML('beforeend', html);"
        " const made = document.createElement('script');"
        " made.textContent = \"document.title = 'owned'\"; document.body.append(made); }",
        HOSTILE,
    )
    await visit.page.wait_for_timeout(300)
    assert await visit.page.title() != "owned"
    assert any("Content Security Policy" in words for words in visit.console_errors)
