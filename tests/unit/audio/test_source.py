"""Which device is opened, in which format, and which channel is heard."""

from __future__ import annotations

import numpy as np
import pytest

from agent.audio.source import (
    InputDevice,
    Wish,
    candidates,
    formats,
    hardware_numbers,
    matches,
    pick_channel,
)
from agent.types import AudioFormat

ROOM = InputDevice(3, "Jabra SPEAK 510: USB (hw:2,0)", "usb:1-1.4,0", "ALSA", 16000, 1)
CARD = InputDevice(0, "HDA Intel: ALC (hw:0,0)", "card:PCH,0", "ALSA", 48000, 2)
DEFAULT = InputDevice(5, "default", "default", "ALSA", 44100, 128, is_default=True)
OTHER = InputDevice(4, "sysdefault", "sysdefault", "ALSA", 44100, 128)
ALL = [CARD, ROOM, OTHER, DEFAULT]


@pytest.mark.parametrize("wanted", ["jabra", "Jabra*hw:2*", "usb:1-1.4,0", "SPEAK 510"])
def test_a_device_is_found_by_name_pattern_or_id(wanted: str) -> None:
    assert [device.name for device in ALL if matches(device, wanted)] == [ROOM.name]


def test_the_wanted_device_is_tried_first_then_default_hardware_plugins() -> None:
    assert candidates(ALL, Wish("jabra")) == [ROOM, DEFAULT, CARD, OTHER]
    assert candidates(ALL, Wish()) == [DEFAULT, CARD, ROOM, OTHER]


def test_without_fallback_only_the_wanted_device_is_tried() -> None:
    assert candidates(ALL, Wish("jabra", fallback=False)) == [ROOM]
    assert candidates(ALL, Wish("webcam", fallback=False)) == []


def test_hardware_is_opened_at_its_native_rate_and_channels_first() -> None:
    assert formats(CARD, Wish())[0] == AudioFormat(48000, 2)
    assert AudioFormat(48000, 1) in formats(CARD, Wish())
    assert formats(CARD, Wish(rate=32000))[0] == AudioFormat(32000, 2)


def test_a_plugin_is_asked_for_the_agents_own_format() -> None:
    assert formats(DEFAULT, Wish())[0] == AudioFormat(16000, 1)
    assert formats(DEFAULT, Wish(channel=3))[0] == AudioFormat(16000, 3)


def test_every_format_tried_has_the_wanted_channel() -> None:
    array = InputDevice(1, "array (hw:1,0)", "card:A,0", "ALSA", 48000, 6)
    assert all(native.channels >= 4 for native in formats(array, Wish(channel=4)))


def test_one_channel_is_taken_as_it_is_and_all_are_averaged() -> None:
    frames = np.array([[100, 300], [-100, 100]], np.int16)
    assert pick_channel(frames, 1).tolist() == [100, -100]
    assert pick_channel(frames, 2).tolist() == [300, 100]
    assert pick_channel(frames, 9).tolist() == [300, 100], "the last stands for one it lacks"
    assert (pick_channel(frames, 0) * 32768).tolist() == [200, 0]


def test_card_and_device_are_read_from_the_name() -> None:
    assert hardware_numbers(ROOM.name) == (2, 0)
    assert hardware_numbers("default") is None
