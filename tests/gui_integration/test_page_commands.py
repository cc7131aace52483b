"""The page shows a spoken command at its line, live and in the history."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import expect

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.test_page_real import spoken

NAME = "lamp.off"
ROOM = "<i>lamp</i>"
COMMAND = {
    "name": NAME,
    "phrases": ["turn off the {thing}"],
    "slots": {"thing": {ROOM: ["light"], "fan": ["fan"]}},
}


async def test_a_command_is_a_chip_at_its_line_and_in_the_history(
    open_page: OpenPage, tmp_path: Path
) -> None:
    with Daemon(tmp_path, f"commands={json.dumps([COMMAND])}") as daemon:
        visit = await open_page(daemon.url, wav=spoken(tmp_path, "en-1.wav"))
        await visit.talk()
        await visit.wait_finals(1)
        chip = visit.page.locator(f'[data-segment-id] [data-command="{NAME}"]')
        await expect(chip).to_have_text(f"Command {NAME} · thing: {ROOM}", timeout=30_000)
        await visit.talk()
        await visit.state("idle")
        assert len(await visit.finals()) == 1
        await visit.page.goto(f"{daemon.url}/#/history")
        kept = visit.page.locator(f'#history-list [data-command="{NAME}"]')
        await expect(kept).to_have_text(f"Command {NAME} · thing: {ROOM}", timeout=30_000)
        assert await visit.page.locator(".command i").count() == 0
        assert visit.console_errors == []
