"""A browser on another host of the LAN: it signs in, and speaks over TLS."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import (
    ALLOW_MICROPHONE,
    COMMON_ARGUMENTS,
    RATE,
    find_chromium,
    missing_browser,
    write_wav,
)
from tests.lan import OtherHost

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"
LISTEN = "listen=[{host: 0.0.0.0, port: 0}, {host: 0.0.0.0, port: 0, tls: true}]"


@pytest.fixture(scope="module")
def host() -> Iterator[OtherHost]:
    if reason := OtherHost.missing() or missing_browser():
        pytest.skip(reason)
    with OtherHost() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(host: OtherHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("lan"), LISTEN, listeners=2) as running:
        yield running


@asynccontextmanager
async def browser_there(host: OtherHost, folder: Path, *arguments: str) -> AsyncIterator[Browser]:
    """Chromium that runs on the other host."""
    start = folder / "chromium-there"
    start.write_text(f'#!/bin/sh\nexec {shlex.join(host.command(find_chromium() or ""))} "$@"\n')
    start.chmod(0o755)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=start, args=[*COMMON_ARGUMENTS, ALLOW_MICROPHONE, *arguments]
        )
        try:
            yield browser
        finally:
            await browser.close()


def address(daemon: Daemon, host: OtherHost, listener: int) -> str:
    scheme, port = ("http", "https")[listener], daemon.addresses[listener].rsplit(":", 1)[1]
    return f"{scheme}://{host.box}:{port.strip('/')}"


def token(daemon: Daemon) -> str:
    return (daemon.state_dir / "token").read_text().strip()


async def signed_in(context: BrowserContext, daemon: Daemon, host: OtherHost) -> Page:
    """A page that came by the plain address and was signed in."""
    page = await context.new_page()
    await page.goto(address(daemon, host, 0))
    await page.wait_for_selector("body[data-ready]")
    assert page.url == address(daemon, host, 1) + "/sign-in"
    await page.fill("#token", token(daemon))
    await page.click("#submit")
    await page.wait_for_selector('body[data-state="idle"]')
    assert page.url == address(daemon, host, 1) + "/"
    return page


async def test_who_signs_in_speaks_and_reads_and_is_out_after_signing_out(
    host: OtherHost, daemon: Daemon, tmp_path: Path
) -> None:
    samples, _ = soundfile.read(CLIPS / "en-1.wav", dtype="int16")
    quiet = np.zeros(RATE * 2, np.int16)
    wav = write_wav(tmp_path / "spoken.wav", np.concatenate([quiet, samples, quiet]))
    fake = f"--use-file-for-fake-audio-capture={wav}%noloop"
    async with browser_there(host, tmp_path, fake) as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await signed_in(context, daemon, host)
        assert await page.evaluate("isSecureContext")
        assert (await page.evaluate("document.cookie")) == ""
        await page.click("#talk")
        await page.locator('[data-segment-id][data-final="true"]').first.wait_for(timeout=30_000)
        await page.click("#talk")
        await page.wait_for_selector('body[data-state="idle"]')
        await page.evaluate("import('/static/access.js').then((m) => m.signOut())")
        await page.wait_for_url("**/sign-in")
        await page.goto(address(daemon, host, 1))
        assert page.url.endswith("/sign-in")


async def test_a_wrong_code_is_told_and_the_page_asked_for_comes_after_the_right_one(
    host: OtherHost, daemon: Daemon, tmp_path: Path
) -> None:
    async with browser_there(host, tmp_path) as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(address(daemon, host, 1) + "/health?next=//evil.example")
        await page.wait_for_selector("body[data-ready]")
        await page.fill("#token", "not the code")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#error:not([hidden])")
        assert await page.inner_text("#error") == "That is not the access code."
        await page.fill("#token", token(daemon))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/health?next=//evil.example")


async def test_an_address_of_another_site_is_no_place_to_go_next(
    host: OtherHost, daemon: Daemon, tmp_path: Path
) -> None:
    async with browser_there(host, tmp_path) as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await signed_in(context, daemon, host)
        for bad in (
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
        ):
            await page.goto(f"{address(daemon, host, 1)}/sign-in?next={bad}")
            await page.wait_for_url(address(daemon, host, 1) + "/")


async def test_an_address_with_the_token_leaves_none_in_the_history(
    host: OtherHost, daemon: Daemon, tmp_path: Path
) -> None:
    async with browser_there(host, tmp_path) as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(f"{address(daemon, host, 1)}/?token={token(daemon)}")
        await page.wait_for_selector('body[data-state="idle"]')
        assert page.url == address(daemon, host, 1) + "/"


async def shoot(page: Page, name: str) -> None:
    """A picture for README, where one is wanted."""
    if folder := os.environ.get("FUNASR_SCREENS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def test_the_sign_in_and_trust_pages_read_in_both_languages(
    host: OtherHost, daemon: Daemon, tmp_path: Path
) -> None:
    async with browser_there(host, tmp_path) as browser:
        for locale, title, trust in (
            ("en-GB", "Sign in", "Trust this box"),
            ("zh-CN", "登录", "信任此设备"),
        ):
            context = await browser.new_context(
                ignore_https_errors=True, locale=locale, viewport={"width": 360, "height": 740}
            )
            page = await context.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            await page.goto(address(daemon, host, 1))
            await page.wait_for_selector("body[data-ready]")
            assert await page.inner_text("h1") == title
            await shoot(page, f"sign-in-{locale[:2]}")
            await page.click('a[href="/sign-in/trust"]')
            await page.wait_for_selector("body[data-ready]")
            assert await page.inner_text("h1") == trust
            assert len(await page.inner_text("#sha256")) == 95
            await shoot(page, f"trust-{locale[:2]}")
            wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await page.evaluate(wide)
            async with page.expect_download() as download:
                await page.click("#download")
            assert (await download.value).suggested_filename.endswith(".crt")
            assert errors == []
