"""Captures a microphone in a child process, since a dead device blocks its reader for ever.

`python -m agent.audio.capture_process list|probe|capture [WISH]`: `list` prints the devices as
JSON, `probe` opens the wanted one and tells how that went, `capture` writes messages
(`agent.audio.capture_protocol`) until standard input ends. `agent.audio.capture` drives it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from agent.audio.capture_protocol import Audio, Message, Opened, encode
from agent.audio.convert import Resampler
from agent.audio.microphone import OpenInput, PortAudio
from agent.audio.ring import Ring
from agent.audio.source import SourceError, SourceState, Wish, pick_channel
from agent.types import SAMPLE_RATE, Int16

POLL_S = 0.1
"""How often a silent device is asked whether it is still well."""
MOST_MS = 200
"""Audio of one message at most."""
PROBE_S = 3.0
"""A probed device must deliver within this time."""
_FULL = np.iinfo(np.int16).max


def main(arguments: Sequence[str]) -> int:
    """Body of the child; returns its exit status."""
    # Libraries below PortAudio print to standard output; the messages get a pipe of their own.
    with os.fdopen(os.dup(1), "wb", buffering=0) as pipe:
        os.dup2(2, 1)
        command = arguments[0] if arguments else ""
        wish = Wish(**json.loads(arguments[1])) if len(arguments) > 1 else Wish()
        try:
            if command == "list":
                devices = [device.to_json() for device in PortAudio().devices()]
                _write(pipe, json.dumps({"devices": devices}).encode())
            elif command == "probe":
                _probe(pipe, wish)
            elif command == "capture":
                _capture(pipe, wish)
            else:
                return 2
        except SourceError as error:
            if command == "capture":
                _write(pipe, encode(error))
            else:
                told = {"state": error.state, "message": error.message}
                _write(pipe, json.dumps(told).encode())
            return 1
        except BrokenPipeError:
            return 0  # the daemon has gone
    return 0


class _Inlet:
    """Takes frames from PortAudio's thread."""

    def __init__(self, ring_ms: int) -> None:
        self._ring_ms = ring_ms
        self._ring: Ring | None = None
        self._flagged = 0
        self.came = threading.Event()

    def sized(self, rate: int) -> Ring:
        """The ring, for this rate."""
        if self._ring is None:
            self._ring = Ring(rate * self._ring_ms // 1000)
        return self._ring

    def take(self, frames: NDArray[np.int16], lost: bool) -> None:
        """The next frames [n, channels]."""
        self._flagged += lost
        ring = self._ring
        if ring is not None:
            ring.push(frames)
        self.came.set()

    def flagged(self) -> int:
        """Losses that PortAudio told since the last call."""
        count, self._flagged = self._flagged, 0
        return count


class _Converter:
    """Native frames to 16 kHz mono; a gap ends the filter's memory."""

    def __init__(self, rate: int, channel: int) -> None:
        self._rate = rate
        self._channel = channel
        self._resampler = Resampler(rate)

    def accept(self, frames: NDArray[np.int16]) -> Int16:
        return self._resampler.accept(pick_channel(frames, self._channel))

    def gap(self, frames: int) -> tuple[Int16, int]:
        """What the filter still held, and the lost frames as samples of 16 kHz."""
        tail = self._resampler.finish()
        self._resampler = Resampler(self._rate)
        return tail, round(frames * SAMPLE_RATE / self._rate)


def _capture(pipe: BinaryIO, wish: Wish) -> None:
    """Open and deliver until the device fails. Raises SourceError, BrokenPipeError."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    inlet = _Inlet(wish.ring_ms)
    source = PortAudio().open(wish, inlet.take)
    ring = inlet.sized(source.format.rate)
    _write(pipe, encode(Opened(source.device, source.format, source.instead)))
    converter = _Converter(source.format.rate, wish.channel)
    most = source.format.rate * MOST_MS // 1000
    while True:
        if not inlet.came.wait(POLL_S) and not source.is_active:
            name = source.device.name
            raise SourceError(SourceState.STALLED, f"{name} is gone: PortAudio ended its stream")
        inlet.came.clear()
        while items := ring.take(most):
            for message in _messages(items, converter, inlet):
                _write(pipe, encode(message))


def _messages(
    items: tuple[NDArray[np.int16] | int, ...], converter: _Converter, inlet: _Inlet
) -> list[Message]:
    found: list[Message] = []
    dropped = clipped = 0
    blocks: list[Int16] = []
    for item in items:
        if isinstance(item, int):
            tail, lost = converter.gap(item)
            if blocks or len(tail):
                found.append(Audio(_joined([*blocks, tail]), dropped, clipped))
                blocks, clipped, dropped = [], 0, 0
            dropped += lost
            continue
        clipped += int(np.count_nonzero((item >= _FULL) | (item <= -_FULL)))
        blocks.append(converter.accept(item))
    found.append(Audio(_joined(blocks), dropped, clipped, inlet.flagged()))
    return found


def _probe(pipe: BinaryIO, wish: Wish) -> None:
    """Open the wanted device and wait for audio. Raises SourceError."""
    inlet = _Inlet(wish.ring_ms)
    source: OpenInput = PortAudio().open(wish, inlet.take)
    if not inlet.came.wait(PROBE_S):
        raise SourceError(SourceState.STALLED, f"{source.device.name} opens and stays silent")
    _write(pipe, json.dumps({"device": source.device.to_json()}).encode())


def _joined(blocks: list[Int16]) -> Int16:
    return np.concatenate([np.zeros(0, np.int16), *blocks])


def _write(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _end_with_parent() -> None:
    """Standard input ends when the daemon does, however that came about."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Closing a dead device can hang; the kernel closes it too.
    os._exit(status)
