"""Why the box is slower now than it could be. Needs nothing but files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.ops.sysfs import read_number, read_text

ROOT = Path("/")
PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "too warm"}
"""Bits of what a Raspberry Pi's firmware says of now."""
PI_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_SLOWING = ("cpufreq", "thermal-cpufreq", "thermal-devfreq", "devfreq", "Processor")
"""Beginnings of the names of cooling devices that cool by being slower."""
_ALERT = "-throttle-alert"
"""Jetson: end of the names of those that say that a part is being slowed by its firmware."""


def throttling(root: Path = ROOT) -> Iterator[str]:
    """Why the box is slower now than it could be, in words; nothing when it is not."""
    bits = read_text(root / PI_FILE)
    try:
        number = int(bits, 16)
    except ValueError:
        number = 0
    yield from (words for bit, words in PI_FLAGS.items() if number >> bit & 1)
    yield from (f"slowed down against heat ({kind})" for kind in slowed_by(root))


def slowed_by(root: Path = ROOT) -> list[str]:
    """Names of the cooling devices that are slowing the box now."""
    found = set()
    for folder in (root / "sys/class/thermal").glob("cooling_device*"):
        kind = read_text(folder / "type")
        slows = kind.startswith(_SLOWING) or kind.endswith(_ALERT)
        if slows and (read_number(folder / "cur_state") or 0) > 0:
            found.add(kind)
    return sorted(found)
