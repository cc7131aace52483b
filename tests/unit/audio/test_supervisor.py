"""The microphone's states: what is decided, tick by tick."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.capture_protocol import Opened
from agent.audio.source import InputDevice, SourceState
from agent.audio.supervisor import Order, Supervisor, Timing
from agent.types import AudioFormat

TIMING = Timing(
    tick_ms=100,
    stall_ms=500,
    open_ms=1000,
    retry_min_ms=200,
    retry_max_ms=800,
    probe_ms=400,
    settle_ms=300,
)


def source(instead: str = "") -> Opened:
    device = InputDevice(0, "usb mic", "usb:1-1,0", "ALSA", 48000, 1)
    return Opened(device, AudioFormat(48000, 1), instead)


def running(instead: str = "") -> Supervisor:
    made = Supervisor(TIMING)
    assert made.tick() is Order.OPEN
    made.opened(source(instead))
    made.audio()
    return made


def orders(supervisor: Supervisor, ticks: int) -> list[Order]:
    return [supervisor.tick() for _ in range(ticks)]


def ticks_until(supervisor: Supervisor, wanted: Order) -> int:
    for count in range(1, 1000):
        if supervisor.tick() is wanted:
            return count
    raise AssertionError(f"{wanted} never came")


def test_a_device_runs_when_its_first_audio_has_come() -> None:
    supervisor = Supervisor(TIMING)
    assert supervisor.tick() is Order.OPEN
    supervisor.opened(source())
    assert (supervisor.state, supervisor.is_running) == (SourceState.OPENING, False)
    supervisor.audio()
    assert (supervisor.state, supervisor.is_running) == (SourceState.RUNNING, True)
    assert supervisor.reason == "usb mic delivers"
    assert supervisor.reopened == 0


def test_silence_for_too_many_ticks_closes_it_and_opens_it_again() -> None:
    supervisor = running()
    assert orders(supervisor, 4) == [Order.NOTHING] * 4
    supervisor.audio()
    assert orders(supervisor, 5) == [Order.NOTHING] * 4 + [Order.CLOSE]
    assert (supervisor.state, supervisor.source) == (SourceState.STALLED, None)
    assert "gave no audio for 500 ms" in supervisor.reason
    assert ticks_until(supervisor, Order.OPEN) == 2
    supervisor.opened(source())
    supervisor.audio()
    assert supervisor.reopened == 1


def test_a_device_that_never_speaks_is_given_up_and_tried_again() -> None:
    supervisor = Supervisor(TIMING)
    supervisor.tick()
    supervisor.opened(source())
    assert ticks_until(supervisor, Order.CLOSE) == 10
    assert "no audio within 1 s" in supervisor.reason
    assert ticks_until(supervisor, Order.OPEN) == 2


def test_waits_double_up_to_their_bound_and_begin_anew_after_it_ran() -> None:
    supervisor = Supervisor(TIMING)
    waits = []
    for _ in range(5):
        waits.append(ticks_until(supervisor, Order.OPEN))
        supervisor.lost(SourceState.ABSENT, "not there")
        assert supervisor.tick() is Order.CLOSE
    assert waits == [1, 2, 4, 8, 8]
    ticks_until(supervisor, Order.OPEN)
    supervisor.opened(source())
    for _ in range(4):
        supervisor.audio()
        supervisor.tick()
    supervisor.lost(SourceState.STALLED, "gone")
    supervisor.tick()
    assert ticks_until(supervisor, Order.OPEN) == 2


def test_the_last_verdict_stands_while_it_is_tried_again() -> None:
    supervisor = Supervisor(TIMING)
    supervisor.tick()
    supervisor.lost(SourceState.BUSY, "arecord (process 7) holds it")
    for _ in range(40):
        if supervisor.tick() is Order.OPEN:
            assert supervisor.state is SourceState.BUSY
            supervisor.lost(SourceState.BUSY, "arecord (process 7) holds it")
    assert supervisor.reason == "arecord (process 7) holds it"


def test_a_new_sound_card_ends_the_wait() -> None:
    supervisor = Supervisor(TIMING)
    supervisor.tick()
    supervisor.lost(SourceState.ABSENT, "not there")
    assert supervisor.tick() is Order.CLOSE
    supervisor.hurry()
    assert supervisor.tick() is Order.OPEN


def test_on_a_fallback_the_wanted_device_is_looked_for_and_taken_again() -> None:
    supervisor = running("the microphone 'jabra' is not there")
    assert supervisor.on_fallback
    assert supervisor.reason == ("usb mic serves in its place: the microphone 'jabra' is not there")
    seen = []
    for _ in range(8):
        supervisor.audio()
        seen.append(supervisor.tick())
    assert seen == ([Order.NOTHING] * 3 + [Order.PROBE]) * 2
    supervisor.preferred_is_back()
    assert orders(supervisor, 2) == [Order.CLOSE, Order.OPEN]
    supervisor.opened(source())
    supervisor.audio()
    assert (supervisor.on_fallback, supervisor.reopened) == (False, 1)


def test_the_wanted_device_is_not_looked_for_while_it_serves() -> None:
    supervisor = running()
    seen = set()
    for _ in range(50):
        supervisor.audio()
        seen.add(supervisor.tick())
    assert seen == {Order.NOTHING}


def test_what_comes_too_late_from_a_closed_device_changes_nothing() -> None:
    supervisor = running()
    supervisor.lost(SourceState.STALLED, "gone")
    supervisor.audio()
    supervisor.lost(SourceState.FAILED, "again")
    assert (supervisor.state, supervisor.reason) == (SourceState.STALLED, "gone")
    assert not supervisor.is_running


@pytest.mark.parametrize("state", [s for s in SourceState if s is not SourceState.RUNNING])
def test_every_failure_is_followed_by_another_try(state: SourceState) -> None:
    supervisor = running()
    supervisor.lost(state, "why")
    assert supervisor.tick() is Order.CLOSE
    assert ticks_until(supervisor, Order.OPEN) <= TIMING.retry_max_ms // TIMING.tick_ms


@given(st.lists(st.sampled_from(["tick", "opened", "audio", "lost", "hurry", "back"])))
def test_whatever_happens_open_and_close_alternate_and_tries_go_on(events: list[str]) -> None:
    supervisor = Supervisor(TIMING)
    is_open = False
    for event in events + ["tick"] * 30:
        if event == "opened" and is_open:
            supervisor.opened(source("instead"))
        elif event == "audio" and is_open:
            supervisor.audio()
        elif event == "lost":
            supervisor.lost(SourceState.FAILED, "why")
        elif event == "hurry":
            supervisor.hurry()
        elif event == "back":
            supervisor.preferred_is_back()
        elif event == "tick":
            order = supervisor.tick()
            assert order is not Order.OPEN or not is_open
            assert order is not Order.CLOSE or is_open
            is_open = order is Order.OPEN or (is_open and order is not Order.CLOSE)
    assert is_open or ticks_until(supervisor, Order.OPEN) <= 8
