"""The files view in a real browser, against the real daemon."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from playwright.async_api import Page, expect

from tests.end_to_end.daemon import Daemon
from tests.end_to_end.test_daemon import CLIP, own_transcript
from tests.gui_integration.conftest import OpenPage, Visit
from tests.gui_integration.fake_agent import FakeAgent

DROP = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector("main").dispatchEvent(event);
}"""
LONG_S = 900


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("files")) as running:
        yield running


@pytest.fixture
async def visit(daemon: Daemon, open_page: OpenPage) -> AsyncIterator[Visit]:
    opened = await open_page(f"{daemon.url}/#/files")
    yield opened
    assert opened.console_errors == []
    assert all(url.startswith(("http://127.", "ws://127.", "blob:")) for url in opened.requests)


@pytest.fixture
def long_wav(root: Path, tmp_path: Path) -> Path:
    clip = np.concatenate([soundfile.read(root / CLIP, dtype="int16")[0], np.zeros(16000, "<i2")])
    soundfile.write(tmp_path / "long.wav", np.resize(clip, LONG_S * 16000), 16000)
    return tmp_path / "long.wav"


async def row(page: Page, state: str, timeout_s: float = 60) -> Any:
    found = page.locator(f'[data-file="{state}"]').first
    await found.wait_for(timeout=timeout_s * 1000)
    return found


async def saved(page: Page, kind: str) -> tuple[str, str]:
    async with page.expect_download() as waiting:
        await page.click(f'[data-action="save-{kind}"]')
    download = await waiting.value
    text = await asyncio.to_thread((await download.path()).read_text, encoding="utf-8")
    return download.suggested_filename, text


async def test_a_chosen_file_is_shown_and_saved_in_four_formats(visit: Visit, root: Path) -> None:
    page, expected = visit.page, own_transcript(root, root / CLIP)
    await page.set_input_files("#files-input", root / CLIP)
    done = await row(page, "done")
    texts = await done.locator(".file-text p span:last-child").all_text_contents()
    assert "".join(texts).replace(" ", "") == expected.replace(" ", "")
    assert await saved(page, "txt") == ("zh-1.txt", expected + "\n")
    name, srt = await saved(page, "srt")
    assert (name, srt[:5]) == ("zh-1.srt", "1\n00:")
    assert (await saved(page, "vtt"))[1].startswith("WEBVTT\n\n00:")
    assert json.loads((await saved(page, "json"))[1])["text"] == expected


async def test_a_dropped_file_and_one_that_is_no_audio(visit: Visit, root: Path) -> None:
    page = visit.page
    letter = {"name": "<b>letter<b>.txt", "mimeType": "text/plain", "buffer": b"hello " * 99}
    await page.set_input_files("#files-input", letter)  # type: ignore[arg-type]
    await page.evaluate(DROP, list((root / CLIP).read_bytes()))
    failed = await row(page, "error")
    assert "<b>letter<b>.txt: is not audio" in await failed.inner_text()
    assert await page.locator(".files b").count() == 0
    assert "dropped.wav" in await (await row(page, "done")).inner_text()
    visit.console_errors[:] = [e for e in visit.console_errors if "415" not in e]


async def test_progress_rises_and_a_cancel_frees_the_box(
    visit: Visit, daemon: Daemon, long_wav: Path
) -> None:
    page = visit.page
    await page.set_input_files("#files-input", long_wav)
    reading = await row(page, "reading")
    bar = reading.locator("progress[value]")
    await bar.wait_for()
    shares = []
    for _ in range(4):
        shares.append(float(await bar.get_attribute("value") or 0))
        await asyncio.sleep(0.25)
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 1
    assert await reading.locator(".file-text").inner_text()
    assert psutil.Process(daemon.pid).children()
    await page.click('[data-action="cancel"]')
    cancelled = await row(page, "cancelled")
    for _ in range(200):
        if not psutil.Process(daemon.pid).children() and not kept_uploads(daemon.pid):
            break
        await asyncio.sleep(0.05)
    assert not psutil.Process(daemon.pid).children()
    assert kept_uploads(daemon.pid) == []
    await cancelled.locator('[data-action="again"]').click()
    await row(page, "reading")
    await page.click('[data-action="cancel"]')
    await row(page, "cancelled")


async def test_the_language_changes_without_a_reload(visit: Visit, root: Path) -> None:
    page = visit.page
    await page.set_input_files("#files-input", root / CLIP)
    done = await row(page, "done")
    assert await page.locator("#files-title").inner_text() == "Files"
    await page.evaluate("document.documentElement.lang = 'zh-CN'")
    await expect(page.locator("#files-title")).to_have_text("文件")
    assert "用时" in await done.inner_text()
    label = await page.locator('[data-action="save-srt"]').get_attribute("aria-label")
    assert label == "保存为 srt：zh-1.wav"


async def test_a_file_dropped_on_another_view_is_taken_there_and_sent_with_the_settings(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(f"{fake_agent.url}/#/settings")
    await visit.page.select_option("#set-language", "en")
    await visit.page.uncheck("#set-punctuation")
    await visit.page.fill("#set-hotwords", "阿里巴巴 30")
    await visit.page.click("#nav-live")
    await visit.page.evaluate(DROP, list(b"RIFF"))
    await expect(visit.page.locator("#view-files")).to_be_visible()
    assert "turn on the light" in await (await row(visit.page, "done")).inner_text()
    ((name, content, fields),) = fake_agent.uploads
    assert (name, content) == ("dropped.wav", b"RIFF")
    sent = {key: fields[key] for key in ("language", "itn", "punctuation", "hotwords")}
    assert json.loads(sent.pop("hotwords")) == {"阿里巴巴": 30}
    assert sent == {"language": "en", "itn": "true", "punctuation": "false"}
    assert visit.console_errors == []


def kept_uploads(pid: int) -> list[str]:
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.endswith("(deleted)")]
