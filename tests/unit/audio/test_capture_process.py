"""The capture process over real PortAudio streams: what is heard is what was said, bit for bit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from agent.audio.capture import Capture, can_open, list_devices
from agent.audio.capture_protocol import Audio, Message, Opened
from agent.audio.microphone import PortAudio
from agent.audio.sound_cards import RootFiles
from agent.audio.source import SourceError, SourceState, Wish
from agent.types import Int16
from tests.sound import FifoMicrophone

WAIT_S = 20.0


@pytest.fixture
def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FifoMicrophone]:
    made = FifoMicrophone(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def noise(samples: int) -> Int16:
    return np.random.default_rng(7).integers(-9000, 9000, samples).astype(np.int16)


async def read(capture: Capture) -> Message:
    return await asyncio.wait_for(capture.read(), WAIT_S)


async def hear(capture: Capture, samples: int) -> tuple[Int16, int]:
    """So many samples, and how many were lost."""
    blocks: list[Int16] = []
    lost = 0
    while sum(map(len, blocks)) < samples:
        message = await read(capture)
        assert isinstance(message, Audio)
        blocks.append(message.samples)
        lost += message.dropped
    return np.concatenate(blocks), lost


async def opened(wish: Wish) -> tuple[Capture, Message]:
    capture = await Capture.start(wish)
    return capture, await read(capture)


async def test_what_is_said_is_heard_bit_for_bit(fifo: FifoMicrophone) -> None:
    capture, first = await opened(Wish(fifo.name))
    try:
        assert isinstance(first, Opened)
        assert (first.device.name, first.format.rate, first.instead) == (fifo.name, 16000, "")
        said = noise(16000)
        await asyncio.to_thread(fifo.play, said)
        heard, lost = await hear(capture, 15000)
        assert lost == 0
        assert np.array_equal(heard, said[: len(heard)])
    finally:
        await capture.close()


async def test_another_rate_and_the_second_channel_come_as_16_khz_mono(
    fifo: FifoMicrophone,
) -> None:
    capture, first = await opened(Wish(fifo.name, channel=2, rate=48000))
    try:
        assert isinstance(first, Opened)
        assert (first.format.rate, first.format.channels) == (48000, 2)
        t = np.arange(48000) / 48000
        sine = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
        frames = np.stack([np.zeros_like(sine), sine], axis=1).reshape(-1)
        await asyncio.to_thread(fifo.play, frames, 48000, 2)
        heard, _ = await hear(capture, 12000)
        middle = heard[4000:12000].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert np.argmax(spectrum) * 16000 / len(middle) == pytest.approx(440, abs=3)
        assert np.abs(middle).max() == pytest.approx(8000, rel=0.02)
    finally:
        await capture.close()


async def test_a_consumer_that_does_not_come_loses_the_oldest_and_is_told(
    fifo: FifoMicrophone,
) -> None:
    capture, _ = await opened(Wish(fifo.name, ring_ms=200))
    try:
        # More than the ring and the pipes hold, faster than real time, and nobody reads.
        for _ in range(12):
            await asyncio.to_thread(os.write, fifo.fd, bytes(64_000))
        await asyncio.sleep(0.5)
        said, heard, lost = 12 * 32_000, 0, 0
        while heard + lost < said - 2 * 320:
            message = await read(capture)
            assert isinstance(message, Audio)
            heard, lost = heard + len(message.samples), lost + message.dropped
        assert lost > 16_000
    finally:
        await capture.close()


async def test_devices_are_listed_with_their_format(fifo: FifoMicrophone) -> None:
    found = {device.name: device for device in await list_devices()}
    assert found[fifo.name].is_virtual
    assert found[fifo.name].host_api == "ALSA"


async def test_an_absent_device_is_told_and_can_not_be_opened(fifo: FifoMicrophone) -> None:
    capture, first = await opened(Wish("jabra", fallback=False))
    assert isinstance(first, SourceError)
    assert first.state is SourceState.ABSENT
    assert "'jabra' is not there; `funasr-agent devices` lists" in first.message
    await capture.close()
    assert not await can_open(Wish("jabra"))


async def test_another_device_is_opened_instead_and_why_is_told(fifo: FifoMicrophone) -> None:
    capture, first = await opened(Wish("jabra"))
    try:
        assert isinstance(first, Opened)
        assert first.device.name == fifo.name
        assert "'jabra' is not there" in first.instead
    finally:
        await capture.close()


async def test_without_pyaudio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pyaudio"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('hidden by the test')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    capture, first = await opened(Wish())
    assert isinstance(first, SourceError)
    assert first.state is SourceState.UNAVAILABLE
    assert "portaudio19-dev" in first.message
    await capture.close()
    with pytest.raises(SourceError, match="PyAudio is not installed"):
        await list_devices()


async def test_a_process_that_dies_is_told_with_its_last_words() -> None:
    dying = (sys.executable, "-c", "import sys; sys.exit('the driver is on fire')")
    capture = await Capture.start(Wish(), dying)
    message = await read(capture)
    assert isinstance(message, SourceError)
    assert message.state is SourceState.FAILED
    assert "ended with status 1: the driver is on fire" in message.message
    await capture.close()


async def test_a_process_that_does_not_answer_is_ended() -> None:
    stubborn = (sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(60)")
    capture = await Capture.start(Wish(), stubborn)
    process = psutil.Process(capture.pid)
    await asyncio.wait_for(capture.close(), WAIT_S)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_it_ends_with_its_parent_however_that_ended(fifo: FifoMicrophone) -> None:
    code = (
        "import asyncio\n"
        "from agent.audio.capture import Capture\n"
        "from agent.audio.source import Wish\n"
        "async def main():\n"
        "    capture = await Capture.start(Wish())\n"
        "    await capture.read()\n"
        "    print(capture.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(WAIT_S)
    parent.stdout.close()
    deadline = time.monotonic() + WAIT_S
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the capture process outlives its parent"
        time.sleep(0.02)


def test_a_device_that_another_program_holds_is_busy_and_its_holder_is_named(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pyaudio", reason="PyAudio is not installed")
    for name, text in {
        "proc/asound/card1/id": "Mini",
        "proc/asound/card1/pcm0c/info": "name: USB Audio",
        "proc/asound/card1/pcm0c/sub0/status": "owner_pid   : 77",
        "proc/77/comm": "arecord",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(SourceError) as raised:
        PortAudio(RootFiles(tmp_path)).open(Wish("mini", fallback=False), lambda frames, lost: None)
    assert raised.value.state is SourceState.BUSY
    assert "Mini (USB Audio) is held by arecord (process 77)" in raised.value.message
    assert "microphone.device" in raised.value.message
