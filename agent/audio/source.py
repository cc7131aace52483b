"""Input devices as the agent names them, and which of them is to be opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import AudioDeviceError
from agent.types import MAX_RATE, MIN_RATE, SAMPLE_RATE, AudioFormat, Float32, Int16

MOST_CHANNELS = 16
"""A device that offers more is a plug-in, not hardware: it has no native format."""
FULL_SCALE = 32768.0


class SourceState(str, Enum):
    """What an input device is doing."""

    UNAVAILABLE = "unavailable"
    """PyAudio or PortAudio is not installed."""
    OPENING = "opening"
    RUNNING = "running"
    STALLED = "stalled"
    """It was open and its audio stopped; it is being opened again."""
    ABSENT = "absent"
    BUSY = "busy"
    """Another program holds it."""
    FAILED = "failed"
    """It is there and can't be opened."""


class SourceError(AudioDeviceError):
    """No device could be opened; `state` says in which way."""

    def __init__(self, state: SourceState, message: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True)
class InputDevice:
    """A device that records."""

    index: int
    """PortAudio's number of it; changes with what is plugged in."""
    name: str
    id: str
    """Stays the same over restarts: `usb:1-1.4,0` by the USB port, `card:PCH,0` by the ALSA card,
    else the name."""
    host_api: str
    rate: int
    """Native sampling rate in Hz, as PortAudio tells it."""
    channels: int
    is_default: bool = False

    @property
    def is_virtual(self) -> bool:
        """Whether it is a plug-in that takes any format."""
        return self.channels > MOST_CHANNELS

    def to_json(self) -> dict[str, Any]:
        """For people and programs."""
        return asdict(self)


@dataclass(frozen=True)
class Wish:
    """What is to be opened, and how."""

    device: str = ""
    """Part of a name, a pattern with `*`, or an id; empty: the system's default."""
    fallback: bool = True
    """Whether another device serves where that one can't be opened."""
    channel: int = 0
    """1 is the first; 0: the mean of all."""
    rate: int = 0
    """Hz; 0: the device's own."""
    ring_ms: int = 2000


def matches(device: InputDevice, wanted: str) -> bool:
    """Whether `wanted` is the device's id, or part or pattern of its name (case is ignored)."""
    pattern, name = wanted.casefold(), device.name.casefold()
    return pattern == device.id.casefold() or pattern in name or fnmatchcase(name, pattern)


def candidates(devices: Sequence[InputDevice], wish: Wish) -> list[InputDevice]:
    """Devices to try, in order: the wanted ones, then the default, hardware, plug-ins."""
    wanted = [device for device in devices if wish.device and matches(device, wish.device)]
    if wish.device and not wish.fallback:
        return wanted
    others = [device for device in devices if device not in wanted]
    return wanted + sorted(others, key=lambda d: (not d.is_default, d.is_virtual, d.index))


def formats(device: InputDevice, wish: Wish) -> list[AudioFormat]:
    """Formats to try, in order: what was asked for, the native one, then what devices often take.

    A plug-in has no native format and is asked for the agent's own.
    """
    native = device.rate if MIN_RATE <= device.rate <= MAX_RATE else 48_000
    rates = [wish.rate, *([SAMPLE_RATE] if device.is_virtual else []), native, 48_000, 44_100]
    least = max(1, wish.channel)
    most = least if device.is_virtual else max(1, device.channels)
    found: dict[AudioFormat, None] = {}
    for rate in [*rates, SAMPLE_RATE]:
        for channels in dict.fromkeys((most, least)):
            if rate and channels >= least:
                found[AudioFormat(rate, channels)] = None
    return list(found)


def pick_channel(frames: NDArray[np.int16], channel: int) -> Int16 | Float32:
    """Frames [n, channels] to mono [n]: one channel as int16, or the mean as float32 in -1 to 1.

    `channel` counts from 1, 0 is the mean; the last stands for one that the device lacks.
    """
    channels = frames.shape[1]
    if channels == 1:
        return frames[:, 0]
    if channel:
        return frames[:, min(channel, channels) - 1]
    mixed: Float32 = frames.mean(axis=1, dtype=np.float32) / np.float32(FULL_SCALE)
    return mixed


def hardware_numbers(name: str) -> tuple[int, int] | None:
    """Card and device of a name like `USB Audio: - (hw:1,0)`; None for a plug-in."""
    found = re.search(r"\(hw:(\d+),(\d+)\)", name)
    return (int(found[1]), int(found[2])) if found else None
