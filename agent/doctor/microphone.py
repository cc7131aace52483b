"""The microphones that the kernel knows, who may open them and who holds them.

Read from /proc/asound: nothing is opened, so a capture that runs is not disturbed.
"""

from __future__ import annotations

import getpass
import grp
import os
import re
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.box import Box
from agent.doctor.report import Check, gathered, ok, warning

NAME = "microphone"
_MIXERS = ("pipewire", "pipewire-pulse", "wireplumber", "pulseaudio")
"""Programs that hold the device on behalf of all others and share it."""


@dataclass(frozen=True)
class Capture:
    """A device that records."""

    device: str
    """Below the root, `dev/snd/pcmC0D0c`."""
    name: str
    holder: int | None
    """Process that records from it now."""


def find_captures(box: Box) -> list[Capture]:
    """Every capture device of every sound card."""
    found = []
    for folder in box.names("proc/asound/card*/pcm*c"):
        numbers = re.search(r"card(\d+)/pcm(\d+)c$", folder)
        if numbers is None:
            continue
        device = f"dev/snd/pcmC{numbers[1]}D{numbers[2]}c"
        name = re.search(r"^name:\s*(.+)$", box.read(f"{folder}/info"), re.MULTILINE)
        card = box.read(f"proc/asound/card{numbers[1]}/id")
        title = " ".join(filter(None, [card, f"({name[1]})" if name else ""])) or device
        found.append(Capture(device, title, _holder(box, folder, device)))
    return found


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
        by = f", held by {_program(box, capture.holder)}" if capture.holder else ", free"
        held.append(f"{capture.name}{by}")
    if usable:
        return [ok(NAME, "; ".join(held))]
    return [gathered(NAME, held, problems)]


def _permission(box: Box, capture: Capture) -> Check | None:
    path = box.path(capture.device)
    if not box.exists(capture.device):
        seen = f"/{capture.device} is missing"
        return warning(NAME, seen, "hand the device to the container: --device /dev/snd")
    if box.may_open(path):
        return None
    group = _group(path)
    advice = f"sudo usermod -aG {group} {_user()}, then log in again"
    return warning(NAME, f"this user may not open /{capture.device}", advice)


def _held(box: Box, capture: Capture) -> Check | None:
    if capture.holder is None:
        return None
    program = box.read(f"proc/{capture.holder}/comm")
    command = box.read(f"proc/{capture.holder}/cmdline")
    if program in _MIXERS or "funasr-agent" in command or "-m\0agent" in command:
        return None
    seen = f"another program records from /{capture.device}"
    return warning(NAME, seen, f"stop {_program(box, capture.holder)}")


def _holder(box: Box, folder: str, device: str) -> int | None:
    """By the device's own status, which everyone may read; else by the open files of processes."""
    for name in box.names(f"{folder}/sub*/status"):
        owner = re.search(r"^owner_pid\s*:\s*(\d+)", box.read(name), re.MULTILINE)
        if owner is not None:
            return _process_of(box, int(owner[1]))
    return _by_open_files(box, f"/{device}")


def _process_of(box: Box, task: int) -> int:
    """The process of a thread: the status may name the thread that opened the device."""
    group = re.search(r"^Tgid:\s*(\d+)", box.read(f"proc/{task}/status"), re.MULTILINE)
    return int(group[1]) if group else task


def _by_open_files(box: Box, device: str) -> int | None:
    for process in box.path("proc").glob("[0-9]*"):
        try:
            links = [os.readlink(path) for path in (process / "fd").iterdir()]
        except OSError:  # ended, or another user's
            continue
        if device in links:
            return int(process.name)
    return None


def _program(box: Box, pid: int | None) -> str:
    return f"{box.read(f'proc/{pid}/comm') or 'a program'} (process {pid})"


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
