"""The page's files are kept by the browser, and asked for anew when one of them changes."""

from __future__ import annotations

import re
from pathlib import Path

from agent.web.assets import Assets
from tests.unit.web.conftest import Box


async def test_files_are_kept_for_good_and_the_page_is_not(box: Box) -> None:
    page = await box.client.get("/")
    assert page.headers["Cache-Control"] == "no-cache"
    found = re.findall(r'"(/static/[0-9a-f]{12}/[^"]+)"', await page.text())
    assert len(found) >= 5
    for path in found:
        answer = await box.client.get(path)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
    gone = await box.client.get(found[0].rsplit("/", 1)[0] + "/nothing.js")
    assert gone.status == 404
    assert "immutable" not in gone.headers.get("Cache-Control", "")


def test_any_change_gives_another_address(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<script src="/static/a.js"></script>')
    (tmp_path / "a.js").write_text("1")
    before = Assets(tmp_path)
    (tmp_path / "a.js").write_text("2")
    after = Assets(tmp_path)
    assert before.prefix != after.prefix
    assert f'"{after.prefix}/a.js"' in after.page
