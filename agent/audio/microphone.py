"""PortAudio's input devices through PyAudio: the one module that imports it.

Used in the capture process only: a dead device can block its caller for ever.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.audio.sound_cards import (
    RootFiles,
    SystemFiles,
    find_captures,
    program,
    stable_id,
)
from agent.audio.source import (
    InputDevice,
    SourceError,
    SourceState,
    Wish,
    candidates,
    formats,
    hardware_numbers,
    matches,
)
from agent.said import say
from agent.types import AudioFormat

BLOCK_MS = 20
"""Audio that PortAudio hands over at a time."""
NOT_INSTALLED = (
    "the microphone can't be used: PyAudio is not installed; with the package: apt install "
    "python3-pyaudio; in a checkout: install portaudio19-dev and python3-dev, then run "
    "./scripts/run again (pip install 'funasr-agent[audio]')"
)
_FREE = "stop that program, or set microphone.device to another device"
_HELD = "{name} is held by {program}; " + _FREE
_BUSY_WITH = "{name} is busy: {program} holds it; " + _FREE
_BUSY = (-9985, -errno.EBUSY)
"""PortAudio's "device unavailable", and ALSA's own code."""

TakeFrames = Callable[[NDArray[np.int16], bool], None]
"""Frames [n, channels], and whether input was lost before them. Called in PortAudio's thread."""


class PortAudio:
    """An initialised PortAudio: its list of devices is that of the moment it was made."""

    def __init__(self, files: SystemFiles | None = None) -> None:
        """Raises SourceError when PyAudio is missing or PortAudio does not start."""
        try:
            import pyaudio
        except ImportError:
            missing = say("microphone_unavailable", NOT_INSTALLED)
            raise SourceError(SourceState.UNAVAILABLE, missing) from None
        self._pyaudio = pyaudio
        self._files = files or RootFiles()
        try:
            self._port = pyaudio.PyAudio()
        except OSError as error:
            why = say("portaudio_fails", "PortAudio does not start: {error}", error=str(error))
            raise SourceError(SourceState.FAILED, why) from None

    def devices(self) -> list[InputDevice]:
        """Every device that records."""
        default = self._default_index()
        found = []
        for index in range(self._port.get_device_count()):
            info = self._port.get_device_info_by_index(index)
            if int(info["maxInputChannels"]) < 1:
                continue
            name = str(info["name"])
            numbers = hardware_numbers(name)
            found.append(
                InputDevice(
                    index=index,
                    name=name,
                    id=stable_id(self._files, *numbers) if numbers else name,
                    host_api=str(self._port.get_host_api_info_by_index(info["hostApi"])["name"]),
                    rate=round(info["defaultSampleRate"]),
                    channels=int(info["maxInputChannels"]),
                    is_default=index == default,
                )
            )
        return found

    def open(self, wish: Wish, take: TakeFrames) -> OpenInput:
        """The first candidate that opens. Raises SourceError with the reason of the wanted one."""
        devices = self.devices()
        refusal: SourceError | None = None
        if wish.device and not any(matches(device, wish.device) for device in devices):
            refusal = self._not_listed(wish.device)
        for device in candidates(devices, wish):
            try:
                instead = refusal.message if refusal else ""
                return self._open(device, wish, take, instead)
            except SourceError as error:
                refusal = refusal or error
        raise refusal or self._not_listed("")

    def _open(self, device: InputDevice, wish: Wish, take: TakeFrames, instead: str) -> OpenInput:
        failure: OSError | ValueError | None = None
        for native in formats(device, wish):
            try:
                return OpenInput(self._pyaudio, self._port, device, native, take, instead)
            except (OSError, ValueError) as error:
                failure = error
                if _code(error) in _BUSY:
                    break
        if _code(failure) in _BUSY:
            raise SourceError(SourceState.BUSY, self._busy(device))
        if device.is_virtual:  # a plug-in is listed also while what it leads to is away
            gone = "the microphone behind {name} is not there: {error}"
            said = say("microphone_behind", gone, name=device.name, error=str(failure))
            raise SourceError(SourceState.ABSENT, said)
        fails = "{name} can't be opened: {error}; plug it in anew"
        said = say("microphone_fails", fails, name=device.name, error=str(failure))
        raise SourceError(SourceState.FAILED, said)

    def _not_listed(self, wanted: str) -> SourceError:
        """Why PortAudio does not list it: a held device is not listed, like one that is absent."""
        for capture in find_captures(self._files):
            ids = (stable_id(self._files, capture.card, capture.number), capture.name)
            named = any(wanted.casefold() in name.casefold() for name in ids)
            if named and capture.holder is not None:
                held = program(self._files, capture.holder)
                said = say("microphone_held", _HELD, name=capture.name, program=held)
                return SourceError(SourceState.BUSY, said)
        if not wanted:
            none = say("microphone_none", "this box has no microphone; plug one in")
            return SourceError(SourceState.ABSENT, none)
        absent = (
            "the microphone {wanted!r} is not there; `funasr-agent devices` lists those that are"
        )
        return SourceError(SourceState.ABSENT, say("microphone_absent", absent, wanted=wanted))

    def _busy(self, device: InputDevice) -> str:
        numbers = hardware_numbers(device.name)
        for capture in find_captures(self._files):
            same = numbers is None or numbers == (capture.card, capture.number)
            if same and capture.holder is not None:
                held = program(self._files, capture.holder)
                return say("microphone_busy_with", _BUSY_WITH, name=device.name, program=held)
        return say("microphone_busy", "{name} is busy; " + _FREE, name=device.name)

    def _default_index(self) -> int:
        try:
            return int(self._port.get_default_input_device_info()["index"])
        except OSError:  # there is none
            return -1


class OpenInput:
    """A device that records."""

    def __init__(
        self,
        pyaudio: Any,
        port: Any,
        device: InputDevice,
        native: AudioFormat,
        take: TakeFrames,
        instead: str,
    ) -> None:
        """Raises OSError or ValueError when the device refuses the format."""
        self.device = device
        self.format = native
        self.instead = instead
        """Why this one and not the wanted one; empty when it is."""
        lost_input = pyaudio.paInputOverflow
        go_on = (None, pyaudio.paContinue)

        def callback(data: bytes, count: int, times: object, status: int) -> tuple[None, int]:
            frames = np.frombuffer(data, np.int16).reshape(-1, native.channels)
            take(frames, bool(status & lost_input))
            return go_on

        self._stream = port.open(
            format=pyaudio.paInt16,
            rate=native.rate,
            channels=native.channels,
            input=True,
            input_device_index=device.index,
            frames_per_buffer=native.rate * BLOCK_MS // 1000,
            stream_callback=callback,
        )

    @property
    def is_active(self) -> bool:
        """False once PortAudio has seen the device fail."""
        try:
            return bool(self._stream.is_active())
        except OSError:
            return False


def _code(error: OSError | ValueError | None) -> int:
    if error is None:
        return 0
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    return next((arg for arg in error.args if isinstance(arg, int)), 0)
