"""What the page says of the box."""

from __future__ import annotations

from pathlib import Path

from agent.ops.hardware import gpu_percent, hardware
from agent.ops.throttling import throttling


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_bare_box_is_not_slowed_and_has_no_gpu(tmp_path: Path) -> None:
    assert list(throttling(tmp_path)) == []
    assert gpu_percent(tmp_path) is None


def test_weak_power_and_heat_are_said(tmp_path: Path) -> None:
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    put(tmp_path, "sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n")
    put(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "2\n")
    put(tmp_path, "sys/class/thermal/cooling_device1/type", "pwm-fan\n")
    put(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "3\n")
    assert list(throttling(tmp_path)) == [
        "under-voltage",
        "throttled",
        "slowed down against heat (cpufreq-cpu0)",
    ]


def test_load_of_the_gpu(tmp_path: Path) -> None:
    put(tmp_path, "sys/devices/gpu.0/load", "425\n")
    assert gpu_percent(tmp_path) == 42.5


def test_this_machine_tells_its_memory() -> None:
    told = hardware()
    assert 0 < told["memory_available_mb"] <= told["memory_total_mb"]
