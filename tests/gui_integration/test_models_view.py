"""The models view against the real daemon: a bundle is installed, used, rolled back and removed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.end_to_end.daemon import Daemon
from tests.end_to_end.test_models_daemon import Box
from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.test_page_views import wears
from tests.model_loading.tiny_models import asr_files, write_model

VERIFIED = re.compile(r"^Verified: nothing is wrong\.$|takes .* times as long")
"""A machine that is busy with other tests is slower than when the model was tried first."""
WAIT_MS = 60_000
"""A switch proves the model in a process of its own first."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the offline recogniser `lab`, made on another box."""
    folder = tmp_path_factory.mktemp("other")
    write_model(folder, "lab", asr_files())
    other = Box(folder / "state")
    assert other.models("install", str(folder / "lab")).status == 0
    assert other.models("bundle", "lab", "-o", str(folder / "lab.tar")).status == 0
    return folder / "lab.tar"


def row(page: Page, model: str) -> Locator:
    return page.locator(f'#installed [data-ref^="{model}@"]')


async def serves(page: Page, role: str, model: str) -> None:
    """Wait until the page says that the model serves the role, in both of its lists."""
    in_use = page.locator(f'#models [data-role="{role}"][data-model="{model}"]')
    await expect(in_use).to_be_visible(timeout=WAIT_MS)
    await expect(row(page, model).get_by_text("in use", exact=True)).to_be_visible(timeout=WAIT_MS)


async def test_a_bundle_is_installed_used_rolled_back_and_removed(
    daemon: Daemon, open_page: OpenPage, bundle: Path
) -> None:
    visit = await open_page(f"{daemon.url}/#/models", arguments=())
    other = await open_page(f"{daemon.url}/#/models", arguments=())
    page = visit.page
    page.on("dialog", lambda dialog: dialog.accept())
    await serves(page, "asr_offline", "builtin-offline")

    await page.set_input_files("#bundle", bundle)
    await expect(page.locator("#models-said")).to_contain_text("Installed: lab@", timeout=WAIT_MS)
    await expect(page.locator("#bundle-row")).to_be_hidden()
    await expect(row(page, "lab")).to_contain_text("unpinned")
    await serves(page, "asr_offline", "builtin-offline")

    await page.get_by_role("button", name="Use: lab").click()
    await serves(page, "asr_offline", "lab")
    await serves(other.page, "asr_offline", "lab")  # without being told to look
    assert daemon.get("/v1/models")[1]["data"][0]["id"] == "lab"
    assert await page.get_by_role("button", name="Remove: lab").count() == 0

    await page.get_by_role("button", name="Roll back: builtin-offline").click()
    await serves(page, "asr_offline", "builtin-offline")
    await page.get_by_role("button", name="Verify: lab").click()
    await expect(page.locator("#models-said")).to_have_text(VERIFIED, timeout=WAIT_MS)
    await page.get_by_role("button", name="Remove: lab").click()
    await expect(row(page, "lab")).to_have_count(0, timeout=WAIT_MS)
    assert list((daemon.state_dir / "models").iterdir()) == []
    assert visit.console_errors == []


@pytest.mark.parametrize(
    ("language", "words"), [("en", "sha256"), ("zh", "模型包无法使用（lab/model.onnx")]
)
async def test_a_damaged_bundle_is_refused_in_words(
    daemon: Daemon, open_page: OpenPage, bundle: Path, tmp_path: Path, language: str, words: str
) -> None:
    data = bytearray(await asyncio.to_thread(bundle.read_bytes))
    at = data.index(b"lab/model.onnx") + 512 + 100  # inside the weights, behind their tar header
    data[at] ^= 0xFF
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(data)
    visit = await open_page(f"{daemon.url}/#/models", init_script=wears("light", language))
    await visit.page.set_input_files("#bundle", damaged)
    await expect(visit.page.locator("#models-said")).to_contain_text(words, timeout=WAIT_MS)
    await expect(visit.page.locator("#bundle-row")).to_be_hidden()
    await expect(row(visit.page, "builtin-vad")).to_have_count(1)
    assert await row(visit.page, "lab").count() == 0
    folder = daemon.state_dir / "models"
    assert not folder.exists() or list(folder.iterdir()) == []


async def test_what_is_no_bundle_is_refused_in_words(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    letter = tmp_path / "<b>letter</b>.tar".replace("/", "")
    letter.write_text("dear box")
    visit = await open_page(f"{daemon.url}/#/models")
    await visit.page.set_input_files("#bundle", letter)
    said = visit.page.locator("#models-said")
    await expect(said).to_contain_text("bundle", timeout=WAIT_MS)
    assert await said.locator("b").count() == 0


async def test_all_models_are_verified(daemon: Daemon, open_page: OpenPage) -> None:
    visit = await open_page(f"{daemon.url}/#/models")
    await visit.page.click("#models-verify")
    await expect(visit.page.locator("#models-said")).to_have_text(VERIFIED, timeout=WAIT_MS)
