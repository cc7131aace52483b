"""The sound cards that the kernel knows, their stable names, and who holds them.

Read from /proc/asound and /sys: nothing is opened, so a capture that runs is not disturbed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_MAX_TEXT = 256 * 1024
_MAX_NAMES = 512


class SystemFiles(Protocol):
    """Files of the system; tests put others in place."""

    def path(self, name: str) -> Path:
        """`proc/asound` and the like under the root."""

    def read(self, name: str) -> str:
        """Text, stripped and bounded; empty if it can't be read."""

    def names(self, pattern: str) -> list[str]:
        """Paths below the root that match, as `read` takes them, sorted and bounded."""


@dataclass(frozen=True)
class RootFiles:
    """The files of a real box."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Under the root."""
        return self.root / name

    def read(self, name: str) -> str:
        """Text, stripped, at most 256 KB; empty if it can't be read."""
        try:
            with self.path(name).open("rb") as file:
                data = file.read(_MAX_TEXT)
        except OSError:
            return ""
        return data.decode("utf-8", "replace").strip("\0\n\t ")

    def names(self, pattern: str) -> list[str]:
        """Sorted, at most 512."""
        try:
            found = sorted(self.root.glob(pattern))[:_MAX_NAMES]
        except OSError:
            return []
        return [str(path.relative_to(self.root)) for path in found]


@dataclass(frozen=True)
class CaptureDevice:
    """A device that records."""

    card: int
    number: int
    """Of the device on its card."""
    device: str
    """Below the root, `dev/snd/pcmC0D0c`."""
    name: str
    holder: int | None
    """Process that records from it now."""


def find_captures(files: SystemFiles) -> list[CaptureDevice]:
    """Every capture device of every sound card."""
    found = []
    for folder in files.names("proc/asound/card*/pcm*c"):
        numbers = re.search(r"card(\d+)/pcm(\d+)c$", folder)
        if numbers is None:
            continue
        device = f"dev/snd/pcmC{numbers[1]}D{numbers[2]}c"
        name = re.search(r"^name:\s*(.+)$", files.read(f"{folder}/info"), re.MULTILINE)
        card = files.read(f"proc/asound/card{numbers[1]}/id")
        title = " ".join(filter(None, [card, f"({name[1]})" if name else ""])) or device
        holder = _holder(files, folder, device)
        found.append(CaptureDevice(int(numbers[1]), int(numbers[2]), device, title, holder))
    return found


def stable_id(files: SystemFiles, card: int, number: int) -> str:
    """A name of a device that stays over restarts: by its USB port, else by its card's id."""
    port = _usb_port(files, card)
    if port:
        return f"usb:{port},{number}"
    return f"card:{files.read(f'proc/asound/card{card}/id') or card},{number}"


def cards_signature(files: SystemFiles) -> str:
    """Changes when a sound card comes or goes."""
    return files.read("proc/asound/cards")


def program(files: SystemFiles, pid: int) -> str:
    """A process in words."""
    return f"{files.read(f'proc/{pid}/comm') or 'a program'} (process {pid})"


def _usb_port(files: SystemFiles, card: int) -> str:
    """`1-1.4` of the interface `1-1.4:1.0` that the card belongs to; empty when it isn't USB."""
    path = os.path.realpath(files.path(f"sys/class/sound/card{card}/device"))
    found = re.search(r"/(\d+-[\d.]+):\d+\.\d+$", path)
    return found[1] if found else ""


def _holder(files: SystemFiles, folder: str, device: str) -> int | None:
    """By the device's own status, which everyone may read; else by the open files of processes."""
    for name in files.names(f"{folder}/sub*/status"):
        owner = re.search(r"^owner_pid\s*:\s*(\d+)", files.read(name), re.MULTILINE)
        if owner is not None:
            return _process_of(files, int(owner[1]))
    return _by_open_files(files, f"/{device}")


def _process_of(files: SystemFiles, task: int) -> int:
    """The process of a thread: the status may name the thread that opened the device."""
    group = re.search(r"^Tgid:\s*(\d+)", files.read(f"proc/{task}/status"), re.MULTILINE)
    return int(group[1]) if group else task


def _by_open_files(files: SystemFiles, device: str) -> int | None:
    for process in files.path("proc").glob("[0-9]*"):
        try:
            links = [os.readlink(path) for path in (process / "fd").iterdir()]
        except OSError:  # ended, or another user's
            continue
        if device in links:
            return int(process.name)
    return None
