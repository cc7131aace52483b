"""stream.js and its parts alone, with audio that the test makes: exact to the sample."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from agent.types import Int16
from tests.gui_integration.conftest import OpenPage, Visit, until
from tests.gui_integration.cutting_proxy import CuttingProxy
from tests.gui_integration.fake_agent import FakeAgent, FakeStream

CHUNK = 1600

DRIVER = """
async ({ url, chunks, chunkMs, ringSeconds }) => {
  const { TranscriptionStream } = await import("/static/stream.js");
  const seen = { states: [], finals: [], gaps: {}, seqs: [], roundTrips: 0 };
  const step = (state) => (Math.imul(state, 1664525) + 1013904223) >>> 0;
  await new Promise((resolve) => {
    const stream = new TranscriptionStream({
      url,
      start: { sample_rate: 16000, mode: "2pass" },
      ringSeconds,
      handlers: {
        onState: (state) => seen.states.push(state),
        onEvent: (event) => {
          seen.seqs.push(event.seq);
          if (event.type === "final") seen.finals.push(event.text);
        },
        onGap: (gap) => { seen.gaps[gap.key] = gap; },
        onGapGone: (key) => { delete seen.gaps[key]; },
        onRoundTrip: () => { seen.roundTrips += 1; },
        onEnd: (end) => { seen.end = end; resolve(); },
      },
    });
    let state = 1;
    let sent = 0;
    const loud = (chunk) => Math.floor(chunk / 10) % 2 === 0;
    const feed = () => {
      const samples = new Int16Array(1600);
      for (let i = 0; i < samples.length; i += 1) {
        state = step(state);
        samples[i] = loud(sent) ? (state >>> 17) - 16384 : 0;
      }
      stream.push(samples);
      sent += 1;
      seen.kept = Math.max(seen.kept ?? 0, stream.keptMs);
      if (sent < chunks) setTimeout(feed, chunkMs);
      else stream.stop();
    };
    stream.open();
    feed();
  });
  return seen;
}
"""


def noise(chunks: int) -> Int16:
    """What the driver pushes, int16 [chunks * 1600]."""
    state, samples = 1, []
    for chunk in range(chunks):
        for _ in range(CHUNK):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            samples.append((state >> 17) - 16384 if chunk // 10 % 2 == 0 else 0)
    return np.array(samples, np.int16)


async def drive(
    visit: Visit, base: str, chunks: int, chunk_ms: int = 20, ring_seconds: float = 60
) -> Any:
    """Push `chunks` chunks of 100 ms, one each `chunk_ms`, and stop; what the handlers saw."""
    arguments = {
        "url": base.replace("http", "ws") + "/api/v1/stream",
        "chunks": chunks,
        "chunkMs": chunk_ms,
        "ringSeconds": ring_seconds,
    }
    return await visit.page.evaluate(DRIVER, arguments)


def undisturbed(chunks: int) -> FakeStream:
    """The same audio without any network."""
    stream = FakeStream("local", {})
    stream.push(0, noise(chunks))
    stream.finish()
    return stream


async def test_every_sample_arrives_once_and_in_order(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    seen = await drive(await open_page(fake_agent.url), fake_agent.url, chunks=40)
    stream = fake_agent.only_stream
    assert np.array_equal(stream.samples, noise(40))
    assert stream.duplicates == 0
    assert seen["states"] == ["connecting", "live", "stopped"]
    assert seen["end"] == {"error": None}
    assert seen["roundTrips"] >= 1


async def test_cuts_in_mid_frame_are_invisible_in_samples_and_events(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    chunks = 200
    async with CuttingProxy(fake_agent.port) as proxy:
        visit = await open_page(proxy.url)
        driven = asyncio.create_task(drive(visit, proxy.url, chunks))
        for _ in range(5):
            await asyncio.sleep(0.7)
            proxy.cut()
        seen = await driven
    assert proxy.cuts >= 3
    assert np.array_equal(fake_agent.only_stream.samples, noise(chunks))
    wanted = undisturbed(chunks).events
    assert seen["seqs"] == list(range(1, len(wanted) + 1))
    assert seen["finals"] == [e["text"] for e in wanted if e["type"] == "final"]
    assert seen["gaps"] == {}


async def test_audio_beyond_the_bound_is_one_explicit_gap_on_both_sides(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    chunks, ring_seconds = 200, 2
    visit = await open_page(fake_agent.url)
    fake_agent.drop_after = [10]

    async def outage() -> None:
        await until(lambda: fake_agent.taken >= 10 * CHUNK)
        fake_agent.refuse_connections = True
        await asyncio.sleep(2)
        fake_agent.refuse_connections = False

    seen, _ = await asyncio.gather(
        drive(visit, fake_agent.url, chunks, ring_seconds=ring_seconds), outage()
    )
    stream = fake_agent.only_stream
    assert seen["kept"] <= ring_seconds * 1000
    (gap,) = seen["gaps"].values()
    (told,) = [e for e in stream.events if e["type"] == "gap"]
    assert (gap["startMs"], gap["droppedMs"]) == (told["start_ms"], told["dropped_ms"])
    assert gap["droppedMs"] > 0
    wanted = noise(chunks)
    begin, end = told["start_ms"] * 16, (told["start_ms"] + told["dropped_ms"]) * 16
    wanted[begin:end] = 0
    assert np.array_equal(stream.samples, wanted)


async def test_session_that_the_box_forgot_is_followed_by_a_new_one_and_said(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    fake_agent.drop_after = [30]

    async def restart() -> None:
        await until(lambda: fake_agent.taken >= 30 * CHUNK)
        fake_agent.forget_streams()

    seen, _ = await asyncio.gather(drive(visit, fake_agent.url, 100), restart())
    assert [gap["reason"] for gap in seen["gaps"].values()] == ["session"]
    assert seen["end"] == {"error": None}
    old, new = fake_agent.streams.values()
    # The last frame before the cut was taken, but not acknowledged: it is sent again.
    assert np.array_equal(new.samples, noise(100)[29 * CHUNK :])
    assert np.array_equal(old.samples, noise(100)[: 30 * CHUNK])


async def test_stop_while_disconnected_still_delivers_everything(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    fake_agent.drop_after = [5, 1, 2]
    seen = await drive(visit, fake_agent.url, chunks=45, chunk_ms=1)
    assert np.array_equal(fake_agent.only_stream.samples, noise(45))
    assert seen["finals"] == [e["text"] for e in undisturbed(45).events if e["type"] == "final"]
    assert seen["end"] == {"error": None}


async def test_connection_that_is_open_but_dead_is_given_up(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    chunks = 120
    async with CuttingProxy(fake_agent.port) as proxy:
        visit = await open_page(proxy.url)
        driven = asyncio.create_task(drive(visit, proxy.url, chunks, chunk_ms=100))
        await until(lambda: fake_agent.taken >= 10 * CHUNK)
        proxy.stall()
        seen = await driven
    assert "reconnecting" in seen["states"]
    assert fake_agent.connections == 2
    assert np.array_equal(fake_agent.only_stream.samples, noise(chunks))
    assert seen["gaps"] == {}


async def test_back_off_grows_with_full_jitter_up_to_its_bound(
    fake_agent: FakeAgent, open_page: OpenPage
) -> None:
    visit = await open_page(fake_agent.url)
    highest, lowest, reset = await visit.page.evaluate(
        """async () => {
          const { Backoff } = await import("/static/backoff.js");
          const take = (random) => {
            const backoff = new Backoff(random);
            return Array.from({ length: 8 }, () => backoff.next());
          };
          const again = new Backoff(() => 1);
          again.next(); again.next(); again.reset();
          return [take(() => 1), take(() => 0), again.next()];
        }"""
    )
    assert highest == [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]
    assert lowest == [0] * 8
    assert reset == 250
