"""Boards as JetPack 5 and 6 (Orin) and 7 (Thor) lay out their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.ops.hardware import gpu_percent, hardware
from agent.ops.hardware_metrics import add_hardware_metrics
from agent.ops.jetson import gpu_clock, power_events, power_mode
from agent.ops.metrics import Metrics
from agent.ops.throttling import throttling

THERMAL = "sys/class/thermal/cooling_device"
OC = "sys/class/hwmon/hwmon3/oc"
NANO_SUPER = """# NVPMODEL CONFIG for p3767-0003 super
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq
< POWER_MODEL ID=0 NAME=15W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
GPU MAX_FREQ 918000000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
GPU MAX_FREQ -1
< POWER_MODEL ID=3 NAME=7W >
GPU MAX_FREQ 408000000
# < POWER_MODEL ID=9 NAME=MAXN_GONE >
< PM_CONFIG DEFAULT=1 >
"""
AGX = "".join(
    f"< POWER_MODEL ID={number} NAME={name} >\n"
    for number, name in enumerate(["MAXN", "MODE_15W", "MODE_30W", "MODE_50W"])
)
THOR = "".join(
    f"< POWER_MODEL ID={number} NAME={name} >\n"
    for number, name in enumerate(["MAXN", "120W", "90W", "70W"])
)


def board(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def orin(root: Path, gpu: str = "17000000.gpu", **more: str) -> Path:
    clocks = f"sys/class/devfreq/{gpu}"
    return board(
        root,
        {
            "etc/nvpmodel.conf": NANO_SUPER,
            "var/lib/nvpmodel/status": "pmode:0000\n",
            "proc/meminfo": "MemTotal: 7802880 kB\nMemAvailable: 3145728 kB\n"
            "NvMapMemFree: 0 kB\nNvMapMemUsed: 1048576 kB\nCmaTotal: 262144 kB\n",
            "dev/nvmap": "",
            f"{clocks}/cur_freq": "306000000\n",
            f"{clocks}/max_freq": "612000000\n",
            f"{clocks}/available_frequencies": "306000000 612000000 1020000000\n",
            f"{clocks}/device/load": "425\n",
            "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
            f"{OC}1_event_cnt": "0\n",
            f"{OC}2_event_cnt": "4\n",
            f"{OC}3_event_cnt": "12\n",
            f"{OC}1_throt_en": "1\n",
            f"{THERMAL}0/type": "pwm-fan\n",
            f"{THERMAL}0/cur_state": "3\n",
            f"{THERMAL}1/type": "gpu-throttle-alert\n",
            f"{THERMAL}1/cur_state": "0\n",
            f"{THERMAL}2/type": "hot-surface-alert\n",
            f"{THERMAL}2/cur_state": "1\n",
            **more,
        },
    )


def thor(root: Path) -> Path:
    clocks = "sys/class/devfreq/gpu-gpc-0"
    return board(
        root,
        {
            "etc/nvpmodel.conf": THOR,
            "var/lib/nvpmodel/status": "pmode:0001\n",
            "proc/meminfo": "MemTotal: 128790092 kB\nMemAvailable: 104857600 kB\n",
            "proc/device-tree/compatible": "nvidia,p3834-0008\0nvidia,tegra264\0",
            f"{clocks}/cur_freq": "1386000000\n",
            f"{clocks}/max_freq": "1575000000\n",
            "sys/class/devfreq/gpu-nvd-0/cur_freq": "1\n",
            "sys/class/hwmon/hwmon5/oc3_event_cnt": "179\n",
            f"{THERMAL}0/type": "devfreq-gpu-gpc-0\n",
            f"{THERMAL}0/cur_state": "18\n",
        },
    )


def test_an_orin_tells_its_power_mode_and_the_one_that_gives_more(tmp_path: Path) -> None:
    """The fastest mode is neither the first nor the last of its file."""
    mode = power_mode(orin(tmp_path))
    assert str(mode) == "power mode 15W; MAXN_SUPER gives more (sudo nvpmodel -m 2)"


@pytest.mark.parametrize(
    ("conf", "status", "words"),
    [
        (NANO_SUPER, "pmode:0002", "power mode MAXN_SUPER"),
        (NANO_SUPER, "pmode:0003 fmode:cool", "power mode 7W; MAXN_SUPER gives more"),
        (NANO_SUPER, "", "power mode 25W; MAXN_SUPER gives more"),
        (AGX, "pmode:0002", "power mode MODE_30W; MAXN gives more (sudo nvpmodel -m 0)"),
        (THOR, "pmode:0001", "power mode 120W; MAXN gives more (sudo nvpmodel -m 0)"),
        (THOR, "pmode:0007", "power mode 7"),
        ("", "pmode:0004", "power mode 4"),
        (
            "< POWER_MODEL ID=2 NAME=30W_2CORE >\n< POWER_MODEL ID=3 NAME=30W_ALL >\n",
            "pmode:0002",
            "power mode 30W_2CORE; 30W_ALL gives more",
        ),
    ],
)
def test_power_modes_in_words(tmp_path: Path, conf: str, status: str, words: str) -> None:
    files = {"etc/nvpmodel.conf": conf, "var/lib/nvpmodel/status": status}
    told = str(power_mode(board(tmp_path, files)))
    assert told == words or told.startswith(words + " (")


def test_a_box_that_is_no_jetson_tells_nothing(tmp_path: Path) -> None:
    assert power_mode(tmp_path) is None
    assert gpu_clock(tmp_path) is None
    assert power_events(tmp_path) == {}
    board(tmp_path / "torn", {"etc/nvpmodel.conf": "< POWER_MODEL ID=", "x": ""})
    assert power_mode(tmp_path / "torn") is None


@pytest.mark.parametrize("gpu", ["17000000.gpu", "17000000.ga10b"])
def test_the_gpus_clock_and_load_by_either_jetpack(tmp_path: Path, gpu: str) -> None:
    clock = gpu_clock(orin(tmp_path, gpu))
    assert clock is not None
    assert (clock.now_mhz, clock.limit_mhz, clock.most_mhz) == (306, 612, 1020)
    assert gpu_percent(tmp_path) == 42.5


def test_a_thor_names_its_clock_otherwise_and_tells_no_load(tmp_path: Path) -> None:
    clock = gpu_clock(thor(tmp_path))
    assert clock is not None
    assert (clock.now_mhz, clock.limit_mhz, clock.most_mhz) == (1386, 1575, None)
    assert gpu_percent(tmp_path) is None
    assert list(throttling(tmp_path)) == ["slowed down against heat (devfreq-gpu-gpc-0)"]


def test_power_events_are_counted_by_kind(tmp_path: Path) -> None:
    assert power_events(orin(tmp_path)) == {
        "low voltage": 0,
        "average current too high": 4,
        "current too high for a moment": 12,
    }


def test_throttling_by_the_firmware_is_told_and_a_fan_is_not(tmp_path: Path) -> None:
    assert list(throttling(orin(tmp_path))) == []
    board(tmp_path, {f"{THERMAL}1/cur_state": "1\n"})
    assert list(throttling(tmp_path)) == ["slowed down against heat (gpu-throttle-alert)"]


def test_the_status_of_an_orin(tmp_path: Path) -> None:
    told = hardware(orin(tmp_path))
    assert told["memory_shared_with_gpu"]
    assert told["gpu_memory_mb"] == 1024
    assert (told["gpu_mhz"], told["gpu_limit_mhz"]) == (306, 612)
    assert told["power_mode"].startswith("power mode 15W; ")
    assert told["power_events"]["average current too high"] == 4


def test_the_status_of_another_box(tmp_path: Path) -> None:
    told = hardware(tmp_path)
    assert not told["memory_shared_with_gpu"]
    assert told["gpu_memory_mb"] is told["gpu_mhz"] is told["power_mode"] is None
    assert told["power_events"] == {}


def test_the_metrics_of_an_orin_and_of_another_box(tmp_path: Path) -> None:
    there, elsewhere = Metrics(), Metrics()
    add_hardware_metrics(there, orin(tmp_path / "orin"))
    add_hardware_metrics(elsewhere, tmp_path / "none")
    text = there.render("")[0].decode()
    for line in (
        "funasr_agent_throttled 0.0",
        "funasr_agent_gpu_percent 42.5",
        "funasr_agent_gpu_clock_hertz 3.06e+08",
        "funasr_agent_gpu_memory_bytes 1.073741824e+09",
        "funasr_agent_power_events_total 16.0",
        'funasr_agent_power_mode{mode="15W"} 1.0',
        'funasr_agent_power_mode{mode="MAXN_SUPER"} 0.0',
    ):
        assert line in text
    bare = elsewhere.render("")[0].decode()
    assert "funasr_agent_temperature_celsius" in bare
    assert "funasr_agent_gpu" not in bare
    assert "funasr_agent_power" not in bare
