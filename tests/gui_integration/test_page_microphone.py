"""No microphone: the page says why, and files still work."""

from __future__ import annotations

import pytest
from playwright.async_api import FilePayload

from tests.gui_integration.conftest import OpenPage, until
from tests.gui_integration.fake_agent import FakeAgent

NAME = "box.test"
INSECURE = (f"--host-resolver-rules=MAP {NAME} 127.0.0.1",)
KEEP_TRACK = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  const stream = await ask(wanted);
  [window.keptTrack] = stream.getAudioTracks();
  return stream;
};
"""
REFUSE = ("--deny-permission-prompts",)


def failing(name: str) -> str:
    """A browser whose getUserMedia fails with this DOMException."""
    return f"""
navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "{name}"));
"""


async def test_microphone_refused_in_the_browser_is_said(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url, arguments=REFUSE)
    await visit.talk()
    await visit.page.wait_for_selector('#notice[data-code="denied"]')
    assert "Allow it beside the address" in await visit.page.inner_text("#notice")
    await visit.state("idle")
    assert fake_agent.streams == {}


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("NotFoundError", "missing", "No microphone was found"),
        ("NotReadableError", "busy", "Another program may be using it"),
        ("InvalidStateError", "failed", "can't be used: no"),
    ],
)
async def test_each_microphone_failure_has_its_words(
    fake_agent: FakeAgent, open_page: OpenPage, error: str, code: str, words: str
) -> None:
    visit = await open_page(fake_agent.url, init_script=failing(error))
    await visit.talk()
    await visit.page.wait_for_selector(f'#notice[data-code="{code}"]')
    assert words in await visit.page.inner_text("#notice")


async def test_microphone_that_goes_away_ends_the_recording_with_its_words(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url, init_script=KEEP_TRACK)
    await visit.talk()
    await until(lambda: fake_agent.taken > 0)
    await visit.page.evaluate("() => window.keptTrack.dispatchEvent(new Event('ended'))")
    await visit.state("idle")
    assert "The microphone went away" in await visit.page.inner_text("#notice")
    assert fake_agent.only_stream.finished


async def test_leaving_the_page_ends_its_stream(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    await visit.talk()
    await until(lambda: fake_agent.taken > 0)
    await visit.page.goto("about:blank")
    await until(lambda: fake_agent.only_stream.finished)


async def test_plain_http_on_the_network_is_explained_and_upload_works(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(f"http://{NAME}:{fake_agent.port}/", arguments=INSECURE)
    await visit.state("blocked")
    assert "https" in await visit.page.inner_text('#notice[data-code="insecure"]')
    assert await visit.page.is_disabled("#talk")
    wav: FilePayload = {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}
    await visit.page.click("#nav-files")
    await visit.page.set_input_files("#files-input", wav)
    done = visit.page.locator('[data-file="done"] .file-text')
    assert "turn on the light" in await done.inner_text()
