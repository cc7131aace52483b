"""transcript.js alone: rows, their order, and what a reader can do with them."""

from __future__ import annotations

from tests.gui_integration.conftest import OpenPage, Visit
from tests.gui_integration.fake_agent import FakeAgent

BEGIN = """
async () => {
  const { Transcript } = await import("/static/transcript.js");
  return new Transcript().begin("Recording");
}
"""


async def rows(visit: Visit, calls: str) -> list[str]:
    """Texts of all rows after `calls` on a section `s`."""
    section = await visit.page.evaluate_handle(BEGIN)
    await visit.page.evaluate(f"(s) => {{ {calls} }}", section)
    return await visit.page.locator(".rows li").all_text_contents()


async def test_partial_after_its_final_changes_nothing(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    calls = 's.partial("a", "hel", 0); s.final("a", "hello", 0); s.partial("a", "hell", 0);'
    assert await rows(visit, calls) == ["0:00hello"]


async def test_empty_final_takes_its_row_away(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    assert await rows(visit, 's.hear("a", 0); s.partial("a", "h", 0); s.final("a", "", 0);') == []


async def test_rows_stand_in_the_order_of_time(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    calls = (
        's.final("b", "second", 2000); s.gap("gap-3000", 3000, 1500, "overflow");'
        's.final("c", "third", 65000); s.final("a", "first", 100);'
        's.gap("gap-3000", 3000, 2500, "overflow");'
    )
    wanted = ["0:00first", "0:02second", "0:032.5 s of audio lost here", "1:05third"]
    assert await rows(visit, calls) == wanted


async def test_end_without_final_is_marked_and_silence_is_said(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    assert await rows(visit, 's.partial("a", "turn", 0); s.hear("b", 900); s.close();') == [
        "0:00turn"
    ]
    assert await visit.page.locator("[data-unfinished]").count() == 1
    await visit.page.click("#clear")
    assert (await rows(visit, 's.hear("a", 0); s.close();'))[-1] == "No speech"


async def test_markup_in_a_text_stays_text(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    text = "<img src=x onerror=alert(1)>"
    assert await rows(visit, f's.final("a", "{text}", 0);') == ["0:00" + text]
    assert await visit.page.locator(".rows img").count() == 0


async def test_copy_takes_the_text_and_clear_keeps_what_is_being_said(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    calls = (
        's.final("a", "open the door", 0); s.final("b", "打开灯", 900); s.partial("c", "tu", 2000);'
    )
    await rows(visit, calls)
    await visit.page.click("#copy")
    await visit.page.locator("#copy", has_text="Copied").wait_for()
    copied = await visit.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == "open the door\n打开灯\ntu"
    await visit.page.click("#clear")
    assert await visit.page.locator(".rows li").all_text_contents() == ["0:02tu"]


BOUNDS = """
async () => {
  const { Transcript, MAX_ROWS, MAX_SECTIONS } = await import("/static/transcript.js");
  const transcript = new Transcript();
  transcript.begin("A client that says nothing", "Connected");
  const talker = transcript.begin("One that says a lot");
  for (let i = 0; i < MAX_ROWS + 50; i += 1) talker.final(`a${i}`, `sentence ${i}`, 1000 * i);
  const rows = document.querySelectorAll(".rows .segment").length;
  const oldest = document.querySelector(".rows .segment .text").textContent;
  for (let i = 0; i < MAX_SECTIONS + 50; i += 1) transcript.begin(`visitor ${i}`).close();
  const sections = document.querySelectorAll("#segments > li");
  return {
    rows: rows === MAX_ROWS,
    oldest,
    sections: sections.length === MAX_SECTIONS,
    open: [...sections].slice(0, 2).map((item) => item.querySelector("h3").textContent),
  };
}
"""


async def test_rows_and_sections_are_bounded_and_open_sections_stay(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    assert await visit.page.evaluate(BOUNDS) == {
        "rows": True,
        "oldest": "sentence 50",
        "sections": True,
        "open": ["A client that says nothing", "One that says a lot"],
    }
