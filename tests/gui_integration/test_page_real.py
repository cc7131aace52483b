"""The page of the real daemon with the embedded models: what one says is what one reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from playwright.async_api import expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import RATE, OpenPage, write_wav

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"
LEAD_S, TAIL_S = 1.5, 2.0
FILE_TEXT = ".file-text p span:last-child"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def spoken(folder: Path, *names: str) -> Path:
    """Clips with silence around each, as one wav."""
    parts = [np.zeros(int(LEAD_S * RATE), np.int16)]
    for name in names:
        samples, rate = soundfile.read(CLIPS / name, dtype="int16")
        assert rate == RATE
        parts += [samples, np.zeros(int(TAIL_S * RATE), np.int16)]
    return write_wav(folder / "spoken.wav", np.concatenate(parts))


def transcribed(wav: Path) -> str:
    """What the command line prints for it."""
    command = [sys.executable, "-m", "agent", "transcribe", str(wav)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("clip", ["en-1.wav", "zh-2.wav"])
async def test_page_reads_what_transcribe_prints(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path, clip: str
) -> None:
    wav = spoken(tmp_path, clip)
    visit = await open_page(daemon.url, wav=wav)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    await visit.talk()
    await visit.state("speech")
    await visit.wait_finals(1)
    await visit.talk()
    await visit.state("idle")
    assert await visit.finals() == [transcribed(wav)]
    assert await visit.page.locator('[data-final="false"]').count() == 0
    assert visit.console_errors == []


async def test_uploaded_file_reads_the_same(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    wav = spoken(tmp_path, "en-2.wav")
    visit = await open_page(f"{daemon.url}/#/files")
    await visit.page.set_input_files("#files-input", wav)
    await visit.page.wait_for_selector('[data-file="done"]')
    assert await visit.page.locator(FILE_TEXT).all_text_contents() == [transcribed(wav)]


async def test_file_that_is_no_audio_is_refused_in_words(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("dear box")
    visit = await open_page(f"{daemon.url}/#/files")
    await visit.page.set_input_files("#files-input", letter)
    await visit.page.wait_for_selector('[data-file="error"]')
    assert "letter.txt: is not audio" in await visit.page.inner_text(".file-words")


async def test_a_client_that_was_there_first_is_shown_with_what_it_said(
    daemon: Daemon, open_page: OpenPage
) -> None:
    samples = soundfile.read(CLIPS / "en-1.wav", dtype="int16")[0]
    async with aiohttp.ClientSession() as http, http.ws_connect(daemon.url + "/ws") as client:
        await client.send_json({"mode": "2pass", "wav_name": "hall", "wav_format": "pcm"})
        await client.send_bytes(samples.tobytes() + bytes(2 * RATE * 2))
        said = await client.receive_json(timeout=30)
        while said["mode"] != "2pass-offline":
            said = await client.receive_json(timeout=30)
        visit = await open_page(daemon.url)
        await expect(visit.page.locator(".section h3")).to_have_text(["FunASR client: hall"])
        await expect(visit.page.locator('[data-final="true"] .text')).to_have_text([said["text"]])
        await client.send_json({"is_speaking": False})


async def test_models_in_use_are_shown(daemon: Daemon, open_page: OpenPage) -> None:
    visit = await open_page(f"{daemon.url}/#/models")
    for model in ("builtin-vad", "builtin-online", "builtin-offline"):
        await visit.page.locator(f'[data-model="{model}"]').wait_for()
