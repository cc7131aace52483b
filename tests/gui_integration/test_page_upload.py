"""Files sent from the page."""

from __future__ import annotations

from playwright.async_api import FilePayload

from tests.gui_integration.conftest import OpenPage
from tests.gui_integration.fake_agent import FakeAgent

WAV: FilePayload = {"name": "light.wav", "mimeType": "audio/wav", "buffer": b"RIFF" + bytes(3000)}
TEXT: FilePayload = {"name": "<b>notes</b>.txt", "mimeType": "text/plain", "buffer": b"hello"}
DROP = """
const transfer = new DataTransfer();
transfer.items.add(new File([new Uint8Array(10)], "dropped.wav"));
const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
document.getElementById("drop").dispatchEvent(event);
"""


async def test_upload_shows_its_text(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.set_input_files("#file", WAV)
    await visit.page.wait_for_selector('[data-upload="done"]')
    assert await visit.finals() == ["turn on the light"]
    ((name, content, fields),) = fake_agent.uploads
    assert (name, content) == (WAV["name"], WAV["buffer"])
    assert fields["response_format"] == "json"
    assert visit.console_errors == []


async def test_dropped_file_is_uploaded(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.evaluate(DROP)
    await visit.page.wait_for_selector('[data-upload="done"]')
    assert [name for name, _, _ in fake_agent.uploads] == ["dropped.wav"]


async def test_error_of_the_server_is_shown_and_the_next_file_goes_on(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    error = {"code": "not_audio", "message": "<b>notes</b>.txt is not audio"}
    fake_agent.upload_answer = (415, {"error": error})
    await visit.page.set_input_files("#file", [TEXT, WAV])
    await visit.page.locator('[data-upload="error"]').nth(1).wait_for()
    words = await visit.page.locator(".upload-words").all_text_contents()
    assert words == [error["message"]] * 2
    assert await visit.page.locator("#uploads b").count() == 0
    fake_agent.upload_answer = (200, {"text": "hello"})
    await visit.page.set_input_files("#file", WAV)
    await visit.page.wait_for_selector('[data-upload="done"]')
    assert await visit.finals() == ["hello"]
