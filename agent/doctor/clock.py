"""The clock: not before this software was made; set by the network or by hand."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from agent.config import PACKAGE_ROOT
from agent.doctor.box import Box
from agent.doctor.report import Check, failure, ok, warning

NAME = "clock"
SLACK_S = 300.0
"""File times and the clock may differ by so much, for example on a network disk."""
_COMMAND_LIMIT_S = 5.0


def build_time(package: Path = PACKAGE_ROOT / "agent") -> float:
    """UNIX seconds of the newest file of the package; 0 when it can't be read."""
    times = [path.stat().st_mtime for path in package.rglob("*.py")]
    return max(times, default=0.0)


def check_clock(box: Box, built: Callable[[], float] = build_time) -> list[Check]:
    """One line."""
    now, made = box.now(), built()
    text = _utc(now)
    without = "" if box.exists("dev/rtc0") or box.exists("dev/rtc") else "no real-time clock"
    if now < made - SLACK_S:
        seen = f"{text} is before this software was made ({_utc(made)})"
        advice = (
            "set it (date --set, or connect a network); certificates and times are wrong till then"
        )
        if without:
            advice += "; this board keeps no time while it is off: add a real-time clock"
        return [failure(NAME, "; ".join(filter(None, [seen, without])), advice)]
    synchronised = _synchronised(box)
    if synchronised is None:
        return [ok(NAME, f"{text}; whether the network sets it is not known")]
    if synchronised:
        return [ok(NAME, f"{text}, set by the network")]
    seen = "; ".join(filter(None, [f"{text}, not set by the network", without]))
    return [warning(NAME, seen, "fine without a network: compare it with a watch now and then")]


def _synchronised(box: Box) -> bool | None:
    """Whether time comes from the network; None when the system does not tell."""
    if box.exists("run/systemd/timesync/synchronized"):
        return True
    outcome = box.run(
        ["timedatectl", "show", "--property=NTPSynchronized"], timeout_s=_COMMAND_LIMIT_S
    )
    return {"NTPSynchronized=yes": True, "NTPSynchronized=no": False}.get(outcome.stdout.strip())


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M UTC")
