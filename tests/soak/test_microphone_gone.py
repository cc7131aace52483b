"""The microphone goes and comes back 50 times under a real daemon: no leak, no restart."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.daemon import Daemon
from tests.sound import PulseMicrophone

CYCLES = 50
RUN_S = 2.5
AWAY_S = {"error": (1.0, 2.0, 3.5), "stall": (3.0, 3.7, 5.1)}
"""How long it stays away, in turn; a stall must outlast microphone.stall_ms to be one."""
WARM = 6
MOST_GROWTH_MB = 8.0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def microphone(daemon: Daemon) -> dict[str, Any]:
    status, body = daemon.get("/api/v1/microphone")
    assert status == 200
    assert isinstance(body, dict)
    return body


def heard(daemon: Daemon) -> float:
    """Seconds of audio that came from the device."""
    text = daemon.get("/metrics")[1]
    name = "funasr_agent_microphone_audio_seconds_total "
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def until(daemon: Daemon, wanted: str, reopened: int, limit_s: float = 60.0) -> float:
    """Seconds until it is in the state (and was reopened so often)."""
    start = time.monotonic()
    while True:
        now = microphone(daemon)
        in_state = (now["state"] == "running") == (wanted == "running")
        if in_state and now["reopened"] >= reopened:
            return time.monotonic() - start
        assert time.monotonic() - start < limit_s, (wanted, now, daemon.log()[-2000:])
        time.sleep(0.02)


def test_a_microphone_that_goes_50_times_comes_back_50_times(
    tmp_path: Path, record_property: Any
) -> None:
    back: dict[str, list[float]] = {"error": [], "stall": []}
    noticed: dict[str, list[float]] = {"error": [], "stall": []}
    memory_mb: list[float] = []
    fds: list[int] = []
    settings = ("microphone.enabled=true", "microphone.device=usbmic", "microphone.fallback=false")
    with (
        PulseMicrophone(tmp_path) as source,
        Daemon(tmp_path, *settings, environ=source.environ) as daemon,
    ):
        process = psutil.Process(daemon.pid)
        until(daemon, "running", 0)
        time.sleep(RUN_S)
        first, start = microphone(daemon), time.monotonic()
        heard_before_s = heard(daemon)
        for cycle in range(CYCLES):
            kind = ("error", "stall")[cycle % 2]
            time.sleep(RUN_S)
            gone, come = (
                (source.unplug, source.plug) if kind == "error" else (source.hush, source.talk)
            )
            gone()
            left = time.monotonic()
            noticed[kind].append(until(daemon, "gone", cycle))
            away_s = AWAY_S[kind][cycle // 2 % 3]
            time.sleep(max(0.0, left + away_s - time.monotonic()))
            come()
            back[kind].append(until(daemon, "running", cycle + 1))
            memory_mb.append(process.memory_info().rss / 2**20)
            fds.append(process.num_fds())
        wall_s = time.monotonic() - start
        last = microphone(daemon)
        heard_s = heard(daemon) - heard_before_s
        lost_s = (last["dropped_ms"] - first["dropped_ms"]) / 1000
        children = process.children()
        report = [
            f"{kind}: noticed after {statistics.median(noticed[kind]):.2f} s (median), "
            f"{max(noticed[kind]):.2f} s (max); audio again {statistics.median(times):.2f} s "
            f"(median), {max(times):.2f} s (max) after it came back"
            for kind, times in back.items()
        ]
        report.append(
            f"{wall_s:.0f} s: heard {heard_s:.1f} s, lost and counted {lost_s:.1f} s "
            f"in {last['gaps']} gaps; memory {memory_mb[WARM]:.1f} -> {memory_mb[-1]:.1f} MB, "
            f"files {fds[WARM]} -> {fds[-1]}, reopened {last['reopened']}"
        )
        print(*report, sep="\n")
        record_property("soak", report)
        assert last["reopened"] == CYCLES
        assert last["session_id"] == first["session_id"], "a short absence ends no session"
        assert [child.is_running() for child in children] == [True]
        assert max(fds[WARM:]) - fds[WARM] <= 4, fds
        assert memory_mb[-1] - memory_mb[WARM] < MOST_GROWTH_MB, memory_mb
        assert heard_s + lost_s == pytest.approx(wall_s, rel=0.03), "what was not heard is counted"
        assert daemon.get("/readyz")[0] == 200
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()
