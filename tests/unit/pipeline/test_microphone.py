"""The microphone over a capture that the test plays: states, gaps, events, mute, watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from agent import config
from agent.audio.capture_protocol import Audio, Message, Opened
from agent.audio.source import InputDevice, SourceError, SourceState, Wish
from agent.errors import ProtocolError
from agent.pipeline.microphone import HANG_S, Microphone
from agent.pipeline.microphone_controls import Controls, read_controls, write_controls
from agent.pipeline.service import TranscriptionService
from agent.types import AudioFormat
from tests.fakes import silence, tone

WAIT_S = 10.0
POLL_S = 0.01
CALM: dict[str, object] = {"stall_ms": 60_000}
DEVICE = InputDevice(0, "usb mic", "usb:1-1,0", "ALSA", 48000, 1)


class FakeCapture:
    """Says what the test puts into it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.closed = False

    async def read(self) -> Message:
        message = await self.messages.get()
        if isinstance(message, Exception) and not isinstance(message, SourceError):
            raise message
        return message

    async def close(self) -> None:
        self.closed = True


class Rig:
    """A microphone that runs, and the captures that it made."""

    def __init__(self, service: TranscriptionService, folder: Path, **settings: object) -> None:
        self.captures: list[FakeCapture] = []
        self.wishes: list[Wish] = []
        self.refuse: OSError | None = None
        self.back = False
        self.cards = "none"
        self.now = 100.0
        self.service = service
        self.memory = folder / "microphone.json"
        self._settings = {"enabled": True, "stall_ms": 300, "retry_min_ms": 100, **settings}
        self.microphone = Microphone(
            self.settings(),
            service,
            service.hub,
            self.memory,
            record=self.record,
            probe=self.probe,
            cards=lambda: self.cards,
            clock=lambda: self.now,
        )
        self.task = asyncio.create_task(self.microphone.run())

    def settings(self, **changed: object) -> config.Microphone:
        """Those that it was made with, but for what changes."""
        return config.Microphone.model_validate({**self._settings, **changed})

    async def record(self, wish: Wish) -> FakeCapture:
        self.wishes.append(wish)
        if self.refuse is not None:
            raise self.refuse
        self.captures.append(FakeCapture())
        return self.captures[-1]

    async def probe(self, wish: Wish) -> bool:
        return self.back

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(round(WAIT_S / POLL_S)):
            if true():
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"never: {self.microphone.status()}")

    async def open(self, instead: str = "", captures: int = 1) -> FakeCapture:
        await self.until(lambda: len(self.captures) >= captures)
        capture = self.captures[-1]
        capture.messages.put_nowait(Opened(DEVICE, AudioFormat(48000, 1), instead))
        capture.messages.put_nowait(Audio(silence(1)))
        await self.until(lambda: self.microphone.state in ("running", "muted"))
        return capture

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.service.hub._kept if event["type"] == kind]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.microphone.stop(WAIT_S)


@pytest_asyncio.fixture
async def rig(service: TranscriptionService, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(service, tmp_path, device="usb")
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def calm(service: TranscriptionService, tmp_path: Path) -> AsyncIterator[Rig]:
    """For tests of what must not be opened again: silence of the device is no stall."""
    made = Rig(service, tmp_path, device="usb", **CALM)
    yield made
    await made.stop()


async def test_what_is_heard_is_read_and_every_state_is_an_event(rig: Rig) -> None:
    capture = await rig.open()
    for block in np.split(np.concatenate([tone(3, 4), silence(6)]), 10):
        capture.messages.put_nowait(Audio(block))
    await rig.until(lambda: rig.told("Transcript") and len(rig.told("microphone")) > 1)
    assert [event["state"] for event in rig.told("microphone")][:2] == ["opening", "running"]
    status = rig.microphone.status()
    assert (status["device"], status["device_id"], status["rate"]) == (
        "usb mic",
        "usb:1-1,0",
        48000,
    )
    assert rig.microphone.trouble() == ""


async def test_an_outage_is_a_gap_as_long_as_it_was(rig: Rig) -> None:
    capture = await rig.open()
    rig.now = 101.0
    capture.messages.put_nowait(SourceError(SourceState.STALLED, "gone: PortAudio ended it"))
    await rig.until(lambda: rig.microphone.state == "stalled" and capture.closed)
    assert rig.microphone.trouble() == "gone: PortAudio ended it"
    assert rig.microphone.alive(), "an unplugged microphone is no reason to start again"
    rig.now = 104.0
    await rig.open(captures=2)
    await rig.until(lambda: rig.microphone.dropped_samples >= 4 * 16000 - 1600)
    assert rig.microphone.dropped_samples == 4 * 16000 - 1600, "but for what came at its return"
    assert rig.microphone.reopened == 1
    assert len(rig.told("session_opened")) == 1


async def test_a_device_that_stays_away_ends_its_session(rig: Rig) -> None:
    capture = await rig.open()
    await rig.until(lambda: rig.told("session_opened"))
    capture.messages.put_nowait(SourceError(SourceState.ABSENT, "gone"))
    await rig.until(lambda: rig.microphone.state == "absent" and capture.closed)
    rig.now += 60
    await rig.until(lambda: rig.told("session_closed"))
    assert rig.microphone.status()["session_id"] is None


async def test_audio_that_stops_is_a_stall_and_the_process_is_ended(rig: Rig) -> None:
    capture = await rig.open()
    await rig.until(lambda: rig.microphone.state == "stalled" and capture.closed)
    await rig.until(lambda: len(rig.captures) == 2)


async def test_messages_that_make_no_sense_end_the_process(rig: Rig) -> None:
    capture = await rig.open()
    capture.messages.put_nowait(ProtocolError("the capture process sent nonsense"))
    await rig.until(lambda: rig.microphone.state == "failed" and capture.closed)
    assert "nonsense" in rig.microphone.trouble()


async def test_a_process_that_can_not_be_started_is_told(rig: Rig) -> None:
    capture = await rig.open()
    rig.refuse = OSError("too many processes")
    capture.messages.put_nowait(SourceError(SourceState.ABSENT, "gone"))
    await rig.until(lambda: "too many processes" in rig.microphone.trouble())
    assert rig.microphone.alive()


async def test_a_new_sound_card_is_tried_before_the_wait_is_over(
    service: TranscriptionService, tmp_path: Path
) -> None:
    rig = Rig(service, tmp_path, retry_min_ms=60_000, retry_max_ms=60_000)
    await rig.until(lambda: rig.captures)
    rig.captures[-1].messages.put_nowait(SourceError(SourceState.ABSENT, "not there"))
    await rig.until(lambda: rig.microphone.state == "absent")
    rig.cards = " 1 [USB ]: USB-Audio"
    await rig.until(lambda: len(rig.captures) == 2)
    await rig.stop()


async def test_the_wanted_device_is_taken_again_when_it_is_back(
    service: TranscriptionService, tmp_path: Path
) -> None:
    rig = Rig(service, tmp_path, device="jabra", probe_s=1, stall_ms=20_000)
    capture = await rig.open("the microphone 'jabra' is not there")
    assert rig.microphone.status()["fallback"]
    assert "serves in its place" in rig.microphone.trouble()
    rig.back = True
    await rig.until(lambda: len(rig.captures) == 2)
    assert capture.closed
    await rig.open(captures=2)
    assert rig.microphone.trouble() == ""
    await rig.stop()


async def test_mute_ends_the_session_and_is_kept_for_the_next_start(rig: Rig) -> None:
    capture = await rig.open()
    await rig.until(lambda: rig.microphone.status()["session_id"])
    await rig.microphone.control(muted=True, gain_db=3.0)
    assert rig.microphone.state == "muted"
    await rig.until(lambda: rig.told("session_closed"))
    capture.messages.put_nowait(Audio(tone(5, 5)))
    await rig.until(lambda: rig.microphone.samples > 8000)
    assert rig.microphone.trouble() == ""
    assert len(rig.told("session_opened")) == 1
    assert read_controls(rig.memory, rig.microphone.settings) == Controls(True, 3.0)
    await rig.microphone.control(muted=False)
    capture.messages.put_nowait(Audio(tone(5, 1)))
    await rig.until(lambda: len(rig.told("session_opened")) == 2)
    assert rig.microphone.dropped_samples == 0, "what was not to be heard is no gap"


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"muted": false, "gain_db": "loud"}', '"on"'])
def test_a_damaged_memory_starts_muted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "microphone.json"
    path.write_text(text)
    assert read_controls(path, config.Microphone()) == Controls(muted=True)


def test_what_was_set_holds_until_its_key_has_another_value(tmp_path: Path) -> None:
    path, settings = tmp_path / "microphone.json", config.Microphone(gain_db=2)
    assert read_controls(path, settings) == Controls()
    set_last = Controls(True, 6.0, True)
    write_controls(path, set_last, settings)
    assert read_controls(path, settings) == set_last
    other = config.Microphone(gain_db=3, device="jabra")
    assert read_controls(path, other) == Controls(True, None, True)
    on = config.Microphone(gain_db=2, enabled=True)
    assert read_controls(path, on) == Controls(True, 6.0, None)


def test_a_memory_of_an_older_agent_is_read(tmp_path: Path) -> None:
    path = tmp_path / "microphone.json"
    path.write_text('{"muted": true, "gain_db": 4.5}')
    assert read_controls(path, config.Microphone()) == Controls(True, 4.5)


async def test_gain_makes_it_louder_and_counts_what_it_cuts_off(rig: Rig) -> None:
    capture = await rig.open()
    await rig.microphone.control(gain_db=20.0)
    capture.messages.put_nowait(Audio(tone(5, 1)))
    await rig.until(lambda: rig.microphone.clipped)
    assert rig.microphone.clipped == 1600


async def test_lost_audio_is_told_and_makes_the_box_degraded_for_a_while(rig: Rig) -> None:
    capture = await rig.open()
    capture.messages.put_nowait(Audio(silence(1), dropped=4800, overflows=1))
    await rig.until(lambda: rig.told("AudioGap"))
    assert rig.microphone.overflows == 1
    assert rig.microphone.dropped_samples == 4800
    assert "audio of the microphone was lost" in rig.microphone.trouble()


async def test_levels_pass_by_and_are_not_kept(rig: Rig) -> None:
    viewer = rig.service.hub.subscribe()
    capture = await rig.open()
    for _ in range(4):
        capture.messages.put_nowait(Audio(tone(9, 1)))
        await asyncio.sleep(0.11)
    seen = []
    viewer.close()
    async for event in viewer:
        seen.append(event)
    levels = [e["level_dbfs"] for e in seen if e["type"] == "microphone"]
    assert max(levels, default=-96) > -20
    assert len(rig.told("microphone")) <= 3, "only changes of state are kept"


async def test_a_supervisor_that_hangs_is_not_alive(rig: Rig) -> None:
    await rig.open()
    assert rig.microphone.alive()
    rig.task.cancel()
    await asyncio.gather(rig.task, return_exceptions=True)
    rig.now += HANG_S + 1
    assert not rig.microphone.alive()


async def test_a_microphone_that_is_not_configured_is_alive_and_silent(
    service: TranscriptionService, tmp_path: Path
) -> None:
    rig = Rig(service, tmp_path, enabled=False)
    for _ in range(5):
        await asyncio.sleep(0)
    rig.now += 10 * HANG_S
    assert rig.microphone.alive()
    assert (rig.microphone.state, rig.microphone.trouble(), rig.captures) == ("off", "", [])
    assert not rig.told("microphone")
    await rig.stop()


async def test_it_is_turned_on_and_off_and_remembers_it(
    service: TranscriptionService, tmp_path: Path
) -> None:
    rig = Rig(service, tmp_path, **CALM, enabled=False)
    await rig.microphone.control(enabled=True)
    assert rig.microphone.state == "opening"
    capture = await rig.open()
    await rig.until(lambda: rig.told("session_opened"))
    assert read_controls(rig.memory, rig.microphone.settings).enabled
    await rig.microphone.control(enabled=False)
    assert (rig.microphone.state, rig.microphone.trouble()) == ("off", "")
    await rig.until(lambda: capture.closed and rig.told("session_closed"))
    heard = rig.microphone.samples
    capture.messages.put_nowait(Audio(tone(5, 5)))
    rig.now += 3600
    await rig.microphone.control(enabled=True)
    await rig.open(captures=2)
    await rig.until(lambda: len(rig.told("session_opened")) == 2)
    assert rig.microphone.samples == heard + 1600, "what came while it was off is not heard"
    assert (rig.microphone.dropped_samples, rig.microphone.reopened) == (0, 0)
    await rig.stop()


async def test_what_was_turned_on_is_on_at_the_next_start_unless_only_the_file_counts(
    service: TranscriptionService, tmp_path: Path
) -> None:
    write_controls(tmp_path / "microphone.json", Controls(enabled=True), config.Microphone())
    rig = Rig(service, tmp_path, **CALM, enabled=False)
    await rig.until(lambda: rig.captures)
    await rig.stop()
    rig = Rig(service, tmp_path, **CALM, enabled=False, switch=False)
    assert rig.microphone.state == "off"
    await rig.stop()


async def test_a_reload_turns_it_on_and_off(service: TranscriptionService, tmp_path: Path) -> None:
    rig = Rig(service, tmp_path, **CALM, enabled=False)
    await rig.microphone.use(rig.settings(enabled=True))
    capture = await rig.open()
    await rig.microphone.use(rig.settings(enabled=False))
    assert rig.microphone.state == "off"
    await rig.until(lambda: capture.closed)
    await rig.stop()


async def test_a_reload_with_another_channel_reopens_the_device_and_keeps_the_session(
    calm: Rig,
) -> None:
    capture = await calm.open()
    await calm.until(lambda: calm.microphone.status()["session_id"])
    await calm.microphone.use(calm.settings(channel=2))
    await calm.until(lambda: capture.closed and len(calm.captures) == 2)
    assert calm.wishes[-1].channel == 2
    await calm.open(captures=2)
    assert len(calm.told("session_opened")) == 1
    assert not calm.told("session_closed")


async def test_a_reload_with_another_device_opens_that_one_and_a_session_of_its_own(
    calm: Rig,
) -> None:
    capture = await calm.open()
    await calm.until(lambda: calm.microphone.status()["session_id"])
    await calm.microphone.use(calm.settings(device="jabra"))
    await calm.until(lambda: capture.closed and calm.told("session_closed"))
    assert (await calm.open(captures=2)) is not capture
    assert calm.wishes[-1].device == "jabra"
    await calm.until(lambda: len(calm.told("session_opened")) == 2)


async def test_a_reload_that_names_the_device_in_use_more_exactly_disturbs_nothing(
    calm: Rig,
) -> None:
    capture = await calm.open()
    await calm.until(lambda: calm.microphone.status()["session_id"])
    await calm.microphone.use(calm.settings(device=DEVICE.id, gain_db=20))
    capture.messages.put_nowait(Audio(tone(5, 1)))
    await calm.until(lambda: calm.microphone.clipped)
    assert (calm.microphone.state, len(calm.captures)) == ("running", 1)
    assert len(calm.told("session_opened")) == 1


async def test_a_key_that_a_reload_changes_overrules_the_page_and_no_other_does(calm: Rig) -> None:
    await calm.open()
    await calm.microphone.control(gain_db=6.0)
    await calm.microphone.use(calm.settings(itn=False))
    assert calm.microphone.gain_db == 6.0
    await calm.microphone.use(calm.settings(itn=False, gain_db=1))
    assert calm.microphone.gain_db == 1.0
    # Nor does it come back when the key does.
    assert read_controls(calm.memory, calm.settings()).gain_db is None
