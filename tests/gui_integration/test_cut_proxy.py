"""A network that breaks in the middle of frames leaves no trace in the transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.end_to_end.daemon import Daemon
from tests.gui_integration.conftest import RATE, OpenPage, until, write_wav
from tests.gui_integration.cutting_proxy import CuttingProxy

CLIPS = Path(__file__).resolve().parent.parent / "data" / "clips"
PAUSE_S = 1.2
START_S = 1.5


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def conversation(folder: Path, seconds: float) -> tuple[Path, int]:
    """Clips in turn with pauses, at least so long; and how many they are."""
    clips = [soundfile.read(path, dtype="int16")[0] for path in sorted(CLIPS.glob("*.wav"))]
    pause = np.zeros(int(PAUSE_S * RATE), np.int16)
    parts, count = [np.zeros(int(START_S * RATE), np.int16)], 0
    while sum(map(len, parts)) < seconds * RATE:
        parts += [clips[count % len(clips)], pause]
        count += 1
    return write_wav(folder / "conversation.wav", np.concatenate([*parts, pause])), count


async def cut_often(proxy: CuttingProxy, cuts: int, every_s: float) -> None:
    """Each cut waits until the page is connected again."""
    for number in range(1, cuts + 1):
        await asyncio.sleep(every_s)
        await until(lambda: proxy.live > 0)
        proxy.cut()
        await until(lambda: proxy.cuts == number)  # noqa: B023


async def read_page(
    open_page: OpenPage, url: str, wav: Path, seconds: float, proxy: CuttingProxy, cuts: int
) -> list[str]:
    """The finals on the page after the whole recording, under `cuts` cuts."""
    visit = await open_page(url, wav=wav)
    await visit.page.wait_for_selector('body[data-health="ok"]')
    await visit.talk()
    await visit.state("listening", "speech")
    await asyncio.gather(
        asyncio.sleep(seconds), cut_often(proxy, cuts, seconds / (cuts + 1) if cuts else 0)
    )
    await visit.talk()
    await visit.state("idle", timeout_s=40)
    assert await visit.page.locator("[data-gap]").count() == 0
    assert await visit.page.locator('[data-final="false"]').count() == 0
    assert await visit.page.locator("#notice").is_hidden()
    return await visit.finals()


async def compare(
    daemon: Daemon, open_page: OpenPage, folder: Path, seconds: float, cuts: int
) -> None:
    wav, spoken = conversation(folder, seconds)
    length = soundfile.info(wav).duration
    port = int(daemon.url.rpartition(":")[2])
    async with CuttingProxy(port) as calm, CuttingProxy(port) as rough:
        undisturbed, disturbed = await asyncio.gather(
            read_page(open_page, calm.url, wav, length, calm, 0),
            read_page(open_page, rough.url, wav, length, rough, cuts),
        )
    assert rough.cuts == cuts
    assert sum(lost > 0 for _, lost in rough.cut_bytes) == cuts
    print(f"{cuts} cuts in {length:.0f} s, {len(disturbed)} finals of {spoken} clips")
    assert len(undisturbed) >= spoken // 2
    assert disturbed == undisturbed


async def test_cut_stream_reads_as_the_undisturbed_one(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    await compare(daemon, open_page, tmp_path, seconds=15, cuts=4)


@pytest.mark.soak
@pytest.mark.timeout(420)
async def test_twenty_cuts_in_three_minutes_leave_no_trace(
    daemon: Daemon, open_page: OpenPage, tmp_path: Path
) -> None:
    await compare(daemon, open_page, tmp_path, seconds=180, cuts=20)
