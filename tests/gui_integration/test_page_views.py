"""The views of the real page: reached by address and keyboard, in two languages and themes.

FUNASR_SCREENS=docs/screens makes the pictures of README: light on a desktop, dark and Chinese on a
phone. With FUNASR_SCREENS_ALL=1 every view comes in every look.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import soundfile
from playwright.async_api import Page, expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import OpenPage, Visit

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"
VIEWS = ("live", "history", "files", "models", "device", "settings")
SIZES = {"phone": (390, 844), "desktop": (1200, 900)}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def forget(daemon: Daemon) -> None:
    """Empty the history."""
    gone = urllib.request.Request(daemon.url + "/api/v1/transcripts?all=true", method="DELETE")
    urllib.request.urlopen(gone, timeout=60).close()


def upload_two(daemon: Daemon) -> None:
    for clip in ("zh-1.wav", "en-1.wav"):
        upload(daemon, CLIPS / clip)


def upload(daemon: Daemon, wav: Path) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="<b>'
        + wav.name.encode()
        + b'"\r\n\r\n'
        + wav.read_bytes()
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(daemon.url + "/v1/audio/transcriptions", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["text"]


def wears(theme: str, language: str) -> str:
    """Script that sets what the browser keeps."""
    kept = json.dumps({"theme": theme, "interface": language})
    return f"localStorage.getItem('funasr-agent') || localStorage.setItem('funasr-agent', {kept!r})"


async def go(page: Page, view: str) -> None:
    await page.click(f"#nav-{view}")
    await expect(page.locator(f"#view-{view}")).to_be_visible()


async def shoot(visit: Visit, view: str, size: str, theme: str, language: str) -> None:
    """A picture of the view, where one is wanted."""
    folder = os.environ.get("FUNASR_SCREENS")
    chosen = CHOSEN.get((size, theme, language))
    if chosen == "" and view in AT_WORK:
        return
    if folder and (chosen is not None or EVERY_LOOK):
        name = chosen if chosen is not None else f"-{size}-{theme}-{language}"
        await visit.page.screenshot(path=f"{folder}/{view}{name}.png", full_page=True)


CHOSEN = {("desktop", "light", "en"): "", ("phone", "dark", "zh"): "-phone"}
"""Looks that README shows -> ending of their names."""
AT_WORK = ("live", "device")
"""Views whose picture on a desktop comes from `test_long_stream.py`: there is something to see."""
EVERY_LOOK = bool(os.environ.get("FUNASR_SCREENS_ALL"))
LOOKS = [("light", "en"), ("dark", "zh")]
if EVERY_LOOK:
    LOOKS += [("light", "zh"), ("dark", "en")]


async def fill(daemon: Daemon, visit: Visit) -> None:
    """What a box in use shows: a client that speaks, a file that was read."""
    await asyncio.to_thread(forget, daemon)
    async with aiohttp.ClientSession() as http, http.ws_connect(daemon.url + "/ws") as link:
        await link.send_json({"mode": "2pass", "wav_name": "kitchen", "wav_format": "pcm"})
        for clip in ("zh-2.wav", "en-2.wav"):
            samples = soundfile.read(CLIPS / clip, dtype="int16")[0]
            await link.send_bytes(samples.tobytes() + bytes(64000))
        await expect(visit.page.locator('.segment[data-final="true"]').first).to_be_visible()
        await link.send_json({"is_speaking": False})
        while not (await link.receive_json(timeout=30))["is_final"]:
            continue
    await go(visit.page, "files")
    await visit.page.set_input_files("#files-input", CLIPS / "en-1.wav")
    await expect(visit.page.locator('[data-file="done"]')).to_be_visible(timeout=30_000)


@pytest.mark.parametrize(("theme", "language"), LOOKS)
async def test_every_view_fits_phone_and_desktop(
    daemon: Daemon, open_page: OpenPage, theme: str, language: str
) -> None:
    visit = await open_page(daemon.url, init_script=wears(theme, language))
    await visit.page.wait_for_selector('body[data-health="ok"]')
    ground = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(244, 246, 247)", "dark": "rgb(14, 20, 23)"}[theme]
    await fill(daemon, visit)
    for size, (width, height) in SIZES.items():
        await visit.page.set_viewport_size({"width": width, "height": height})
        for view in VIEWS:
            await go(visit.page, view)
            if view == "history":
                await expect(visit.page.locator(".kept [data-final]").first).to_be_visible()
            if view == "device":
                await expect(visit.page.locator("#checks li").first).to_be_visible()
            if view == "models":
                await expect(visit.page.locator("#installed li").nth(2)).to_be_visible()
                await expect(visit.page.locator("#models [data-model]").first).to_be_visible()
            wide = await visit.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{view} is {wide} px wide on a {size}"
            await shoot(visit, view, size, theme, language)
    words = await visit.page.inner_text("#nav-history")
    assert words == {"en": "History", "zh": "历史"}[language]
    assert visit.console_errors == []


async def test_history_is_searched_and_deleted_and_another_browser_sees_it(
    daemon: Daemon, open_page: OpenPage
) -> None:
    await asyncio.to_thread(forget, daemon)
    await asyncio.to_thread(upload_two, daemon)
    first = await open_page(f"{daemon.url}/#/history", arguments=())
    second = await open_page(f"{daemon.url}/#/history", arguments=())
    for visit in (first, second):
        await expect(visit.page.locator("[data-session]")).to_have_count(2)
    text = daemon.get("/api/v1/transcripts?source=file")[1]["transcripts"][-1]["text"]
    await first.page.fill("#history-q", text[:2])
    await expect(first.page.locator("[data-session]")).to_have_count(1)
    assert await first.page.locator(".kept .text").first.inner_text() == text
    assert await first.page.locator(".kept b").count() == 0  # a file's name is text
    await first.page.fill("#history-q", "nobody said this")
    await expect(first.page.locator("#history-said")).to_have_text("Nothing was found.")
    await first.page.fill("#history-q", text[:2])
    first.page.on("dialog", lambda dialog: dialog.accept())
    await first.page.locator(".kept-head button").click()
    await expect(second.page.locator("[data-session]")).to_have_count(1)
    assert first.console_errors == []


async def test_settings_are_kept_and_sent(daemon: Daemon, open_page: OpenPage) -> None:
    visit = await open_page(f"{daemon.url}/#/settings")
    await visit.page.select_option("#set-mode", "offline")
    await visit.page.fill("#set-hotwords", "阿里巴巴 30\nfun asr\n\n")
    await visit.page.select_option("#set-hop", "480")
    await visit.page.uncheck("#set-itn")
    await visit.page.uncheck("#set-punctuation")
    await visit.page.reload()
    await visit.state("idle", "blocked")
    sent = await visit.page.evaluate(
        "import('/static/settings.js').then((module) => module.startFields())"
    )
    assert sent == {
        "mode": "offline",
        "language": "auto",
        "itn": False,
        "punctuation": False,
        "chunk_size": [0, 8, 4],
        "hotwords": {"阿里巴巴": 30, "fun asr": 20},
    }
    assert await visit.page.input_value("#mode") == "offline"


async def test_views_are_reached_by_keyboard(daemon: Daemon, open_page: OpenPage) -> None:
    visit = await open_page(daemon.url)
    await visit.page.focus("#nav-device")
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator("#view-device")).to_be_focused()
    assert await visit.page.get_attribute("#nav-device", "aria-current") == "page"
    await visit.page.go_back()
    await expect(visit.page.locator("#view-live")).to_be_visible()


def test_every_word_of_the_page_has_its_chinese(root: Path) -> None:
    static = root / "agent" / "web" / "static"
    known = set(re.findall(r'^  (?:"([^"]+)"|(\w+)):', (static / "zh.js").read_text(), re.M))
    words = {quoted or bare for quoted, bare in known}
    page = (static / "index.html").read_text()
    page = page[page.index("<body") :]
    said = {text.strip() for text in re.findall(r">([^<>]+)<", page)}
    for code in static.glob("*.js"):
        said |= set(re.findall(r'\bt\(\s*"([^"]+)"', code.read_text()))
    open_words = {word for word in said if re.search(r"[A-Za-z]{3}", word)} - words
    names = {"funasr-agent", "JSON", "SubRip (srt)", "WebVTT (vtt)", "CPU"}
    needs_script = {w for w in open_words if w.startswith("This page needs JavaScript")}
    assert open_words - names - needs_script == set()
