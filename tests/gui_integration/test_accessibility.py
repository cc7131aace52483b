"""axe-core finds nothing serious in any view, in both themes and languages, on a phone too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.test_page_views import CLIPS, VIEWS, go, upload, wears

RUN = """
async () => {
  const { violations } = await axe.run(document);
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((n) => n.target).join(" | ")}`);
}
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core is not installed (pip install axe-playwright-python)")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        upload(running, CLIPS / "zh-1.wav")
        yield running


@pytest.mark.parametrize(
    ("theme", "language", "width"), [("light", "en", 1200), ("dark", "zh", 390)]
)
async def test_axe_finds_nothing_serious(
    daemon: Daemon, open_page: OpenPage, axe: str, theme: str, language: str, width: int
) -> None:
    visit = await open_page(daemon.url, init_script=wears(theme, language))
    await visit.page.set_viewport_size({"width": width, "height": 900})
    await visit.page.wait_for_selector('body[data-health="ok"]')
    await visit.page.evaluate(axe)
    found: list[str] = []
    for view in VIEWS:
        await go(visit.page, view)
        if view == "history":
            await expect(visit.page.locator("[data-session]")).to_have_count(1)
        if view == "device":
            await expect(visit.page.locator("#checks li").first).to_be_visible()
        if view == "models":
            await expect(visit.page.locator("#installed li").nth(2)).to_be_visible()
        found += [f"{view}: {problem}" for problem in await visit.page.evaluate(RUN)]
    assert found == []
