"""Temperature and power: whether heat, a weak supply or a power mode slows the box down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.doctor.box import Box
from agent.doctor.report import Check, gathered, ok, warning
from agent.ops.jetson import gpu_clock, power_events, power_mode
from agent.ops.throttling import PI_FILE, PI_FLAGS, slowed_by

NAME = "temperature"
POWER = "power"
HOT_C = 80.0
"""Where boards begin to slow down, unless a sensor says where its own does."""
_COMMAND_LIMIT_S = 5.0
_PI_PAST = 16
"""Bits of what has happened since the start lie this much above those of now."""
_COOL = "give it air or a fan, and keep it out of the sun"
_POWER = "use the power supply made for the board, and a short cable"


@dataclass(frozen=True)
class Sensor:
    """A temperature and where the kernel begins to act on it."""

    name: str
    celsius: float
    limit_c: float


def check_power(box: Box) -> list[Check]:
    """One line; none on a box without power modes (they are Jetson's)."""
    mode, clock = power_mode(box.root), gpu_clock(box.root)
    if mode is None:
        return []
    seen = str(mode)
    if clock is not None and clock.limit_mhz is not None:
        most = f" of {clock.most_mhz}" if clock.most_mhz else ""
        seen += f"; GPU at {clock.now_mhz} MHz, up to {clock.limit_mhz}{most} MHz"
    return [ok(POWER, seen)]


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
    text = box.read(PI_FILE)
    if not text and "Raspberry Pi" in box.read("proc/device-tree/model"):
        outcome = box.run(["vcgencmd", "get_throttled"], timeout_s=_COMMAND_LIMIT_S)
        text = outcome.stdout.strip().removeprefix("throttled=")
    try:
        bits = int(text, 16)
    except ValueError:
        return []
    problems: list[Check] = []
    for shift, when in ((0, "now"), (_PI_PAST, "since the start")):
        words = [flag for bit, flag in PI_FLAGS.items() if bits >> (bit + shift) & 1]
        weak = bits >> shift & 1
        if words and not problems:
            problems.append(warning(NAME, f"{', '.join(words)} {when}", _POWER if weak else _COOL))
    return problems


def _jetson(box: Box) -> list[Check]:
    counts = {kind: count for kind, count in power_events(box.root).items() if count}
    if not counts:
        return []
    words = ", ".join(f"{kind}: {count}" for kind, count in counts.items())
    seen = f"slowed {sum(counts.values())} times since the start ({words})"
    return [warning(NAME, seen, f"{_POWER}; or choose a lower power mode (nvpmodel)")]


def _slowed(box: Box) -> list[Check]:
    names = slowed_by(box.root)
    if not names:
        return []
    return [warning(NAME, f"slowed down against heat ({', '.join(names)})", _COOL)]


def _capped(box: Box) -> list[Check]:
    """Cores whose highest clock is set below what they can, unless by a power mode (`check_power`
    tells that)."""
    mode = power_mode(box.root)
    if mode is not None and mode.better:
        return []
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
