"""The microphones that the kernel knows, who may open them and who holds them."""

from __future__ import annotations

import getpass
import grp
from pathlib import Path

from agent.audio.sound_cards import CaptureDevice, find_captures, program
from agent.doctor.box import Box
from agent.doctor.report import Check, gathered, ok, warning

NAME = "microphone"
_MIXERS = ("pipewire", "pipewire-pulse", "wireplumber", "pulseaudio")
"""Programs that hold the device on behalf of all others and share it."""


def check_microphone(box: Box) -> list[Check]:
    """One line."""
    captures = find_captures(box)
    if not captures:
        seen = "no microphone; streams and uploads still work"
        advice = "plug one in if this box is to listen itself"
        return [warning(NAME, seen, advice)]
    problems: list[Check] = []
    held: list[str] = []
    usable = 0
    for capture in captures:
        problem = _permission(box, capture) or _held(box, capture)
        usable += problem is None
        problems += [] if problem is None else [problem]
        by = f", held by {program(box, capture.holder)}" if capture.holder else ", free"
        held.append(f"{capture.name}{by}")
    if usable:
        return [ok(NAME, "; ".join(held))]
    return [gathered(NAME, held, problems)]


def _permission(box: Box, capture: CaptureDevice) -> Check | None:
    path = box.path(capture.device)
    if not box.exists(capture.device):
        seen = f"/{capture.device} is missing"
        return warning(NAME, seen, "hand the device to the container: --device /dev/snd")
    if box.may_open(path):
        return None
    group = _group(path)
    advice = f"sudo usermod -aG {group} {_user()}, then log in again"
    return warning(NAME, f"this user may not open /{capture.device}", advice)


def _held(box: Box, capture: CaptureDevice) -> Check | None:
    if capture.holder is None:
        return None
    name = box.read(f"proc/{capture.holder}/comm")
    command = box.read(f"proc/{capture.holder}/cmdline")
    if name in _MIXERS or "funasr-agent" in command or "-m\0agent" in command:
        return None
    seen = f"another program records from /{capture.device}"
    return warning(NAME, seen, f"stop {program(box, capture.holder)}")


def _group(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "audio"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "USER"
