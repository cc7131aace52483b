"""The page against a stand-in agent: what it sends, shows and says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile
from numpy.typing import NDArray
from playwright.async_api import expect

from agent.types import Int16
from tests.gui_integration.conftest import OpenPage, Visit, until
from tests.gui_integration.fake_agent import FakeAgent

FRAME = 1600
LOUD = 1000
ALIKE = 0.98
NO_16_KHZ = """
const Native = window.AudioContext;
window.AudioContext = class extends Native {
  constructor(options) {
    if (options?.sampleRate) throw new DOMException("no such rate", "NotSupportedError");
    super({ sampleRate: 44100 });
  }
};
"""


def likeness(sent: Int16, played: Int16) -> float:
    """How many of the loud frames sent occur in what was played, as a share.

    Frame by frame, because a busy machine's fake microphone now and then skips a few ms.
    """
    frames = sent[: len(sent) // FRAME * FRAME].reshape(-1, FRAME).astype(float)
    loud = [frame for frame in frames if np.sqrt(np.mean(frame**2)) > LOUD]
    return float(np.mean([_best_match(frame, played.astype(float)) > ALIKE for frame in loud]))


def _best_match(frame: NDArray[np.float64], played: NDArray[np.float64]) -> float:
    """Highest normalised correlation of the frame with any stretch of `played`."""
    size = len(played) + len(frame)
    product = np.fft.rfft(played, size) * np.conj(np.fft.rfft(frame, size))
    products = np.fft.irfft(product, size)[: len(played) - len(frame)]
    energy = np.cumsum(np.square(np.concatenate([[0.0], played])))
    stretches = (energy[len(frame) :] - energy[: -len(frame)])[: len(products)]
    return float((products / np.sqrt(np.maximum(stretches, 1) * np.sum(frame**2))).max())


def seconds_loud(samples: Int16) -> float:
    """How long the audio is loud, in frames of 10 ms."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(float)
    return float(np.sum(np.sqrt(np.mean(frames**2, axis=1)) > LOUD)) / 100


def assert_resembles(sent: Int16, wav: Path) -> None:
    """The chirps of the wav arrived: alike in shape, level and length."""
    played, _ = soundfile.read(wav, dtype="int16")
    assert likeness(sent, played) > 0.8
    assert abs(seconds_loud(sent) - seconds_loud(played)) < 0.2
    assert abs(int(np.abs(sent).max()) - int(np.abs(played).max())) < 1000


async def test_page_loads_without_console_error_or_foreign_request(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    assert visit.console_errors == []
    assert {urlsplit(url).netloc for url in visit.requests} == {f"127.0.0.1:{fake_agent.port}"}


async def test_models_and_refusals_are_named(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(f"{fake_agent.url}/#/models")
    unpinned = visit.page.locator('[data-model="my-vad"]')
    await unpinned.wait_for()
    assert "unpinned" in await unpinned.inner_text()
    row = visit.page.locator('[data-model="builtin-offline"]')
    await row.wait_for()
    text = await row.inner_text()
    assert "int8" in text
    assert "paraformer-zh was refused: model_quant.onnx: sha256 is 3f2a" in text
    assert "unpinned" not in text


async def test_health_events_change_what_the_page_says(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    check = {"name": "canary", "status": "degraded", "reason": "no canary was decoded lately"}
    fake_agent.health = {"status": "degraded", "checks": [check]}
    await fake_agent.announce({"type": "health", "seq": 1, **fake_agent.health})
    await visit.page.wait_for_selector('body[data-health="degraded"]')
    assert await visit.page.inner_text("#problems") == check["reason"]


async def test_microphone_arrives_whole_in_frames_of_100_ms(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    visit = await open_page(fake_agent.url, wav=chirps)
    await visit.talk()
    await visit.state("speech")
    await visit.state("listening")
    await visit.wait_finals(2)
    await visit.talk()
    await visit.state("idle")
    stream = fake_agent.only_stream
    assert stream.start["sample_rate"] == 16000
    assert set(stream.frame_sizes[:-1]) == {FRAME}
    assert stream.frame_sizes[-1] <= FRAME
    assert not [event for event in stream.events if event["type"] == "gap"]
    assert_resembles(stream.samples, chirps)
    assert visit.console_errors == []


async def test_other_context_rate_is_resampled_with_a_low_pass(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    visit = await open_page(fake_agent.url, wav=chirps, init_script=NO_16_KHZ)
    await visit.talk()
    await visit.wait_finals(2)
    await visit.talk()
    await visit.state("idle")
    assert_resembles(fake_agent.only_stream.samples, chirps)


async def test_final_replaces_partial_of_same_segment(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    visit = await open_page(fake_agent.url, wav=chirps)
    await visit.talk()
    partial = visit.page.locator('[data-final="false"] .text:not(:empty)').first
    await partial.wait_for()
    assert (await partial.inner_text()).startswith("partial of")
    await visit.wait_finals(2)
    await visit.talk()
    await visit.state("idle")
    finals = [e["text"] for e in fake_agent.only_stream.events if e["type"] == "final"]
    assert await visit.page.locator("[data-segment-id] .text").all_text_contents() == finals


async def test_round_trip_is_shown_while_live(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    visit = await open_page(fake_agent.url, wav=chirps)
    await visit.talk()
    await visit.page.locator("#round-trip", has_text=re.compile(r"^[0-9.]+ ms$")).wait_for()


async def test_cut_connections_lose_and_double_nothing(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    fake_agent.drop_after = [8, 6, 11]
    visit = await open_page(fake_agent.url, wav=chirps)
    await visit.talk()
    await visit.wait_finals(2, timeout_s=60)
    await visit.talk()
    await visit.state("idle")
    stream = fake_agent.only_stream
    assert fake_agent.connections == 4
    assert not [event for event in stream.events if event["type"] == "gap"]
    assert_resembles(stream.samples, chirps)
    finals = [e["text"] for e in stream.events if e["type"] == "final"]
    assert await visit.finals() == finals


async def test_refused_start_is_told_in_the_words_of_the_box(
    fake_agent: FakeAgent, open_page: OpenPage, chirps: Path
) -> None:
    fake_agent.refuse = {"code": "overloaded", "message": "100 streams are open already"}
    visit = await open_page(fake_agent.url, wav=chirps)
    await visit.talk()
    await visit.page.wait_for_selector("#notice:not([hidden])")
    assert await visit.page.inner_text("#notice") == "100 streams are open already"
    await visit.state("idle")


async def test_unreachable_box_is_said(fake_agent: FakeAgent, open_page: OpenPage) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    await visit.page.context.set_offline(True)
    for viewer in list(fake_agent.viewers):
        await viewer.close()
    await visit.page.wait_for_selector('body[data-health="offline"]')
    await visit.page.context.set_offline(False)
    await visit.page.wait_for_selector('body[data-health="ok"]')


async def test_text_of_a_connected_client_is_shown_and_its_marks_are_text(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    session: dict[str, object] = {"session_id": "s9", "segment_id": 0, "start_ms": 0}
    await fake_agent.announce({"type": "session_opened", "seq": 1, "source": "funasr", **session})
    await fake_agent.announce({"type": "partial", "seq": 2, "text": "turn", **session})
    await fake_agent.announce({"type": "final", "seq": 3, "text": "<b>turn</b> on", **session})
    await visit.wait_finals(1)
    assert await visit.finals() == ["<b>turn</b> on"]
    await fake_agent.announce({"type": "final", "seq": 4, "text": "x", "session_id": "unknown"})
    assert await visit.page.inner_text(".section h3") == "FunASR client"


async def test_clients_that_came_before_the_page_are_shown_at_once(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    said = {"type": "partial", "session_id": "s1", "segment_id": 4, "text": "turn", "start_ms": 0}
    known = {"session_id": "s1", "source": "funasr", "name": "kitchen", "said": [said]}
    silent = {"session_id": "s2", "source": "realtime", "name": "", "said": []}
    fake_agent.sessions = [known, silent, {"session_id": "s3", "source": "page", "said": []}]
    visit = await open_page(fake_agent.url)
    titles = visit.page.locator(".section h3")
    await expect(titles).to_have_text(["FunASR client: kitchen", "Realtime client"])
    await expect(visit.page.locator(".segment .text")).to_have_text(["turn"])
    await fake_agent.announce({**said, "type": "final", "seq": 1, "text": "turn on"})
    await read(visit, "turn on")
    await fake_agent.announce({"type": "session_closed", "seq": 2, "session_id": "s2"})
    await expect(titles).to_have_text(["FunASR client: kitchen"])


async def test_a_client_that_left_while_the_page_was_cut_off_is_closed_after_its_last_words(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    session: dict[str, Any] = {"session_id": "s1", "segment_id": 0, "start_ms": 0}
    fake_agent.sessions = [{**session, "source": "funasr", "name": "", "said": []}]
    visit = await open_page(fake_agent.url)
    await expect(visit.page.locator(".section")).to_have_count(1)
    await fake_agent.announce({"type": "partial", "seq": 5, "text": "turn", **session})
    await expect(visit.page.locator(".segment")).to_have_count(1)
    fake_agent.sessions = []
    fake_agent.snapshot_seq = 8
    before = set(fake_agent.viewers)
    for viewer in before:
        await viewer.close()
    await until(lambda: len(fake_agent.viewers - before) == 1)
    await fake_agent.announce({"type": "final", "seq": 7, "text": "turn on", **session})
    await read(visit, "turn on")
    await fake_agent.announce({"type": "partial", "seq": 9, "text": "turn on or off", **session})
    await fake_agent.announce(
        {"type": "session_opened", "seq": 10, "source": "funasr", "session_id": "s9"}
    )
    await expect(visit.page.locator(".section")).to_have_count(2)
    assert await visit.finals() == ["turn on"]


async def read(visit: Visit, text: str) -> None:
    """Wait until the page's only final reads so."""
    await expect(visit.page.locator('[data-final="true"] .text')).to_have_text([text])
