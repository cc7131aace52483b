"""`funasr-agent devices`: the microphones that PortAudio sees, which one is used, its level."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from agent.audio.capture import Capture, list_devices
from agent.audio.capture_protocol import Audio, Opened
from agent.audio.level import FLOOR_DBFS, Level, LevelMeter, amplify
from agent.audio.source import InputDevice, SourceError, Wish, candidates
from agent.commands.common import FAILED, FINE, config_from
from agent.commands.daemon import Daemon, running_daemon
from agent.config import Config

SHOWN_S = 0.2
"""Between two readings of the level."""
FIRST_AUDIO_S = 10.0
_BAR = 30
_BAR_FLOOR_DBFS = -60.0


def devices(args: argparse.Namespace) -> int:
    """List; then show the level of the device that is used where that is wanted.

    `args` has `json`, `level` and the configuration's arguments. Raises SourceError when PortAudio
    can't be asked.
    """
    config = config_from(args)
    found = asyncio.run(list_devices())
    daemon = running_daemon(config)
    held = _held_by_daemon(daemon)
    used = _used(found, config, held)
    if args.json:
        print(json.dumps({"devices": [_row(d, used) for d in found]}, ensure_ascii=False))
        return FINE if found else FAILED
    _show(found, used, config, held)
    wanted = sys.stdout.isatty() if args.level is None else args.level
    if not wanted or (used is None and not held):
        return FINE if found or held else FAILED
    with contextlib.suppress(KeyboardInterrupt):
        if daemon is not None and held:
            _daemon_level(daemon, sys.stdout)
        else:
            asyncio.run(show_level(_wish(config), config.microphone.gain_db, sys.stdout))
    return FINE


async def show_level(
    wish: Wish, gain_db: float, out: TextIO, *, readings: int | None = None
) -> None:
    """Open the device and print its level, for ever or so many times. Raises SourceError."""
    capture = await Capture.start(wish)
    meter, shown = LevelMeter(), 0
    due = time.monotonic() + SHOWN_S
    try:
        while readings is None or shown < readings:
            message = await asyncio.wait_for(capture.read(), FIRST_AUDIO_S)
            if isinstance(message, Opened):
                print(f"{message.device.name}, {_format(message)}; Ctrl-C ends", file=out)
                due = time.monotonic() + SHOWN_S
                continue
            if isinstance(message, Audio):
                samples, over = amplify(message.samples, gain_db)
                meter.accept(samples, message.clipped + over)
            else:
                raise message
            if time.monotonic() >= due:
                due, shown = time.monotonic() + SHOWN_S, shown + 1
                _print_level(meter.read(), out)
    except asyncio.TimeoutError:
        print(f"no audio came within {FIRST_AUDIO_S:.0f} s", file=out)
    finally:
        await capture.close()
        print(file=out)


def bar(level: Level) -> str:
    """The level as one line."""
    share = 1 - max(level.rms_dbfs, _BAR_FLOOR_DBFS) / _BAR_FLOOR_DBFS
    filled = round(_BAR * min(1.0, share))
    words = "too loud" if level.clipped else "silent" if level.rms_dbfs <= FLOOR_DBFS else ""
    meter = "#" * filled + "." * (_BAR - filled)
    return f"[{meter}] {level.rms_dbfs:6.1f} dBFS, peak {level.peak_dbfs:6.1f} {words:8}"


def _daemon_level(daemon: Daemon, out: TextIO) -> None:
    """The running agent holds the device: its own reading."""
    for told in _readings(lambda: daemon.get("/api/v1/microphone")):
        if told["state"] != "running":
            print(f"\r{told['reason']}", end="", file=out, flush=True)
            continue
        clipped = int(told["clipping"])
        _print_level(Level(told["level_dbfs"], told["peak_dbfs"], clipped), out)


def _readings(ask: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    while True:
        yield ask()
        time.sleep(SHOWN_S)


def _print_level(level: Level, out: TextIO) -> None:
    end = "" if out.isatty() else "\n"
    print(("\r" if out.isatty() else "") + bar(level), end=end, file=out, flush=True)


def _held_by_daemon(daemon: Daemon | None) -> str:
    """The device that the running agent records from; empty when it does not."""
    if daemon is None:
        return ""
    return str(daemon.get("/api/v1/microphone").get("device") or "")


def _used(found: list[InputDevice], config: Config, held: str) -> InputDevice | None:
    if held:
        return next((device for device in found if device.name == held), None)
    return next(iter(candidates(found, _wish(config))), None)


def _row(device: InputDevice, used: InputDevice | None) -> dict[str, Any]:
    return {**device.to_json(), "is_virtual": device.is_virtual, "used": device == used}


def _show(found: list[InputDevice], used: InputDevice | None, config: Config, held: str) -> None:
    if not found:
        print("PortAudio sees no microphone; plug one in, or `funasr-agent doctor` says more")
    for device in found:
        mark = "*" if device == used else " "
        native = "any rate" if device.is_virtual else f"{device.rate} Hz, {device.channels} ch"
        print(f"{mark} {device.name}\n    {native}, {device.host_api}, id {device.id}")
    if held:
        print(f"the running agent records from {held}")
    elif used is not None:
        listens = "is used" if config.microphone.enabled else "would be used"
        print(f"* {listens} (microphone.device: {config.microphone.device or 'the default'})")
    elif found:
        print(f"none matches microphone.device: {config.microphone.device}")
    if not config.microphone.enabled and not held:
        say = "turn it on on the page, or set microphone.enabled: true"
        print(f"the agent does not listen by itself: {say}")


def _wish(config: Config) -> Wish:
    settings = config.microphone
    return Wish(settings.device, settings.fallback, settings.channel, settings.rate)


def _format(opened: Opened) -> str:
    return f"{opened.format.rate} Hz, {opened.format.channels} ch"


__all__ = ["SourceError", "bar", "devices", "show_level"]
