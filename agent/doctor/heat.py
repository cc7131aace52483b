"""Temperature, and whether heat or a weak power supply slows the box down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.doctor.box import Box
from agent.doctor.report import Check, gathered, warning

NAME = "temperature"
HOT_C = 80.0
"""Where boards begin to slow down, unless a sensor says where its own does."""
_COMMAND_LIMIT_S = 5.0
_PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "too warm"}
_PI_PAST = 16
"""Bits of what has happened since the start lie this much above those of now."""
_PI_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_SLOWING = ("cpufreq", "thermal-cpufreq", "thermal-devfreq", "devfreq", "Processor")
"""Beginnings of the names of cooling devices that cool by being slower."""
_COOL = "give it air or a fan, and keep it out of the sun"
_POWER = "use the power supply made for the board, and a short cable"


@dataclass(frozen=True)
class Sensor:
    """A temperature and where the kernel begins to act on it."""

    name: str
    celsius: float
    limit_c: float


def check_heat(box: Box) -> list[Check]:
    """One line."""
    sensors = [*_zones(box), *_hwmon(box)]
    hottest = max(sensors, key=lambda sensor: sensor.celsius, default=None)
    seen = ["no sensor" if hottest is None else f"{hottest.celsius:.0f} °C ({hottest.name})"]
    problems = [
        warning(NAME, f"{sensor.name} at {sensor.celsius:.0f} °C is at its limit", _COOL)
        for sensor in sensors
        if sensor.celsius >= sensor.limit_c
    ]
    problems += [*_raspberry_pi(box), *_jetson(box), *_slowed(box), *_capped(box)]
    if not problems:
        seen.append("not slowed down")
    return [gathered(NAME, seen, problems)]


def _zones(box: Box) -> Iterator[Sensor]:
    for folder in box.names("sys/class/thermal/thermal_zone*"):
        value = box.read_number(f"{folder}/temp")
        if value is None or value <= 0:
            continue
        slows: list[float] = []
        stops = [HOT_C]
        for name in box.names(f"{folder}/trip_point_*_type"):
            limit = box.read_number(name.removesuffix("type") + "temp")
            kind = box.read(name)
            if limit and limit > 0 and kind in ("passive", "hot", "critical"):
                (slows if kind == "passive" else stops).append(limit / 1000)
        title = box.read(f"{folder}/type") or folder.rpartition("/")[2]
        yield Sensor(title, value / 1000, min(slows or stops))


def _hwmon(box: Box) -> Iterator[Sensor]:
    for name in box.names("sys/class/hwmon/hwmon*/temp*_input"):
        value = box.read_number(name)
        if value is None or value <= 0:
            continue
        beside = name.removesuffix("input")
        limits = [box.read_number(f"{beside}{kind}") for kind in ("crit", "emergency")]
        known = [limit / 1000 for limit in limits if limit and limit > 0]
        title = box.read(f"{name.rpartition('/')[0]}/name") or "hwmon"
        yield Sensor(title, value / 1000, min([HOT_C, *known]))


def _raspberry_pi(box: Box) -> list[Check]:
    text = box.read(_PI_FILE)
    if not text and "Raspberry Pi" in box.read("proc/device-tree/model"):
        outcome = box.run(["vcgencmd", "get_throttled"], timeout_s=_COMMAND_LIMIT_S)
        text = outcome.stdout.strip().removeprefix("throttled=")
    try:
        bits = int(text, 16)
    except ValueError:
        return []
    problems: list[Check] = []
    for shift, when in ((0, "now"), (_PI_PAST, "since the start")):
        words = [flag for bit, flag in _PI_FLAGS.items() if bits >> (bit + shift) & 1]
        weak = bits >> shift & 1
        if words and not problems:
            problems.append(warning(NAME, f"{', '.join(words)} {when}", _POWER if weak else _COOL))
    return problems


def _jetson(box: Box) -> list[Check]:
    counts = [box.read_number(name) or 0 for name in box.names("sys/class/hwmon/*/oc*_event_cnt")]
    if not any(counts):
        return []
    seen = f"slowed {sum(counts)} times since the start by low voltage or high current"
    return [warning(NAME, seen, f"{_POWER}; or choose a lower power mode (nvpmodel)")]


def _slowed(box: Box) -> list[Check]:
    names = []
    for folder in box.names("sys/class/thermal/cooling_device*"):
        kind = box.read(f"{folder}/type")
        state = box.read_number(f"{folder}/cur_state")
        if kind.startswith(_SLOWING) and state and state > 0:
            names.append(kind)
    if not names:
        return []
    return [warning(NAME, f"slowed down against heat ({len(names)} of {names[0]})", _COOL)]


def _capped(box: Box) -> list[Check]:
    """Cores whose highest clock is set below what they can."""
    worst: tuple[float, str] | None = None
    for folder in box.names("sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        limit = box.read_number(f"{folder}/scaling_max_freq")
        able = box.read_number(f"{folder}/cpuinfo_max_freq")
        if not limit or not able or limit >= able:
            continue
        core = re.sub(r".*/(cpu\d+)/.*", r"\1", folder)
        text = f"{core} is capped at {limit // 1000} of {able // 1000} MHz"
        worst = min(worst or (2.0, ""), (limit / able, text))
    if worst is None:
        return []
    advice = "choose a power mode without the cap (nvpmodel, cpufreq governor) if speed matters"
    return [warning(NAME, worst[1], advice)]
