"""Microphone and temperature: boxes made of files, each with its fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.doctor.box import Outcome
from agent.doctor.heat import check_heat, check_power
from agent.doctor.microphone import check_microphone
from tests.unit.doctor.boxes import answering, box_of, line

# Microphone.

CARD = {
    "proc/asound/card1/id": "Mini\n",
    "proc/asound/card1/pcm0c/info": "card: 1\ndevice: 0\nstream: CAPTURE\nname: USB Audio\n",
    "proc/asound/card1/pcm0p/info": "card: 1\ndevice: 0\nstream: PLAYBACK\nname: USB Audio\n",
    "dev/snd/pcmC1D0c": "",
}
FREE = {"proc/asound/card1/pcm0c/sub0/status": "closed\n"}


def held_by(pid: int, comm: str, command: str = "") -> dict[str, str]:
    return {
        "proc/asound/card1/pcm0c/sub0/status": f"state: RUNNING\nowner_pid   : {pid}\n",
        f"proc/{pid}/comm": f"{comm}\n",
        f"proc/{pid}/cmdline": command,
        f"proc/{pid}/status": f"Name: {comm}\nTgid:\t{pid}\n",
    }


def test_no_microphone_is_only_a_warning(tmp_path: Path) -> None:
    status, seen, _ = line(check_microphone(box_of(tmp_path)))
    assert status == "warning"
    assert seen == "no microphone; streams and uploads still work"


def test_a_free_microphone_is_named_and_a_loudspeaker_is_not(tmp_path: Path) -> None:
    found = line(check_microphone(box_of(tmp_path, {**CARD, **FREE})))
    assert found == ("ok", "Mini (USB Audio), free", "")


@pytest.mark.parametrize(
    ("comm", "command", "status"),
    [
        ("arecord", "arecord\0x.wav", "warning"),
        ("pipewire", "/usr/bin/pipewire", "ok"),
        ("python3", "python3\0-m\0agent\0serve", "ok"),
        ("funasr-agent", "/opt/bin/python\0/opt/bin/funasr-agent\0serve", "ok"),
    ],
)
def test_who_holds_the_microphone_is_told(
    tmp_path: Path, comm: str, command: str, status: str
) -> None:
    box = box_of(tmp_path, {**CARD, **held_by(77, comm, command)})
    found = line(check_microphone(box))
    assert found[0] == status
    assert f"held by {comm} (process 77)" in found[1]
    assert status == "ok" or found[2] == "stop arecord (process 77)"


def test_the_thread_that_holds_it_is_told_by_its_process(tmp_path: Path) -> None:
    thread = {**held_by(78, "capture"), "proc/78/status": "Tgid: 70\n", "proc/70/comm": "ffmpeg\n"}
    assert "ffmpeg (process 70)" in line(check_microphone(box_of(tmp_path, {**CARD, **thread})))[1]


def test_the_holder_is_found_by_its_open_files_where_the_status_is_silent(tmp_path: Path) -> None:
    box = box_of(tmp_path, {**CARD, "proc/90/comm": "sox\n"})
    (tmp_path / "proc/90/fd").mkdir()
    (tmp_path / "proc/90/fd/7").symlink_to("/dev/snd/pcmC1D0c")
    assert "held by sox (process 90)" in line(check_microphone(box))[1]


def test_a_microphone_that_may_not_be_opened_names_the_group(tmp_path: Path) -> None:
    box = replace(box_of(tmp_path, {**CARD, **FREE}), may_open=lambda path: False)
    status, seen, advice = line(check_microphone(box))
    assert status == "warning"
    assert "may not open /dev/snd/pcmC1D0c" in seen
    assert "usermod -aG" in advice


def test_a_container_without_the_device_is_told(tmp_path: Path) -> None:
    files = {name: text for name, text in {**CARD, **FREE}.items() if not name.startswith("dev")}
    status, seen, advice = line(check_microphone(box_of(tmp_path, files)))
    assert (status, "is missing" in seen) == ("warning", True)
    assert "--device /dev/snd" in advice


def test_one_usable_microphone_among_several_is_enough(tmp_path: Path) -> None:
    other = {"proc/asound/card2/pcm0c/info": "name: Webcam\n", "dev/snd/pcmC2D0c": ""}
    box = box_of(tmp_path, {**CARD, **held_by(77, "arecord"), **other})
    status, seen, _ = line(check_microphone(box))
    assert status == "ok"
    assert "held by arecord" in seen
    assert "(Webcam), free" in seen


# Temperature.

ZONE = "sys/class/thermal/thermal_zone0"
PI = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}


def zone(millidegrees: int, **trips: int) -> dict[str, str]:
    files = {f"{ZONE}/type": "cpu-thermal\n", f"{ZONE}/temp": f"{millidegrees}\n"}
    for i, (kind, limit) in enumerate(trips.items()):
        files[f"{ZONE}/trip_point_{i}_type"] = kind
        files[f"{ZONE}/trip_point_{i}_temp"] = str(limit)
    return files


def test_a_cool_box_is_fine_and_a_box_without_sensors_too(tmp_path: Path) -> None:
    status, seen, _ = line(check_heat(box_of(tmp_path / "a", zone(48300, critical=110000))))
    assert (status, seen) == ("ok", "48 °C (cpu-thermal); not slowed down")
    assert line(check_heat(box_of(tmp_path / "b")))[:2] == ("ok", "no sensor; not slowed down")


@pytest.mark.parametrize(
    ("millidegrees", "trips", "status"),
    [
        (82000, {"critical": 110000}, "warning"),
        (82000, {"passive": 99000, "critical": 105000}, "ok"),
        (99000, {"passive": 99000, "critical": 105000}, "warning"),
        (70000, {"passive": 0, "active": 50000}, "ok"),
        (66000, {"hot": 65000}, "warning"),
    ],
)
def test_a_sensor_at_its_limit_is_told(
    tmp_path: Path, millidegrees: int, trips: dict[str, int], status: str
) -> None:
    found = line(check_heat(box_of(tmp_path, zone(millidegrees, **trips))))
    assert found[0] == status
    assert bool(found[2]) == (status == "warning")


@pytest.mark.parametrize(
    ("bits", "words", "advice"),
    [
        ("50005", "under-voltage, throttled now", "power supply"),
        ("50000", "under-voltage, throttled since the start", "power supply"),
        ("80008", "too warm now", "fan"),
    ],
)
def test_a_raspberry_pi_tells_of_weak_power_and_heat(
    tmp_path: Path, bits: str, words: str, advice: str
) -> None:
    path = "sys/devices/platform/soc/soc:firmware/get_throttled"
    by_file = line(check_heat(box_of(tmp_path / "file", {**PI, path: f"{bits}\n"})))
    told = {"vcgencmd": Outcome(0, stdout=f"throttled=0x{bits}\n")}
    by_command = line(check_heat(answering(box_of(tmp_path / "command", PI), told)))
    assert by_file == by_command
    assert by_file[0] == "warning"
    assert words in by_file[1]
    assert advice in by_file[2]


def test_a_raspberry_pi_in_order_is_fine(tmp_path: Path) -> None:
    told = {"vcgencmd": Outcome(0, stdout="throttled=0x0\n")}
    assert line(check_heat(answering(box_of(tmp_path / "a", PI), told)))[0] == "ok"
    assert line(check_heat(box_of(tmp_path / "b", PI)))[0] == "ok"  # no such command


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sys/class/hwmon/hwmon3/oc3_event_cnt": "12\n"}, "slowed 12 times since the start"),
        (
            {
                "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
                "sys/class/thermal/cooling_device0/cur_state": "3\n",
            },
            "slowed down against heat",
        ),
        (
            {
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
                "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1728000\n",
            },
            "cpu0 is capped at 1510 of 1728 MHz",
        ),
        (
            {
                "sys/class/hwmon/hwmon0/name": "nvme\n",
                "sys/class/hwmon/hwmon0/temp1_input": "71000\n",
                "sys/class/hwmon/hwmon0/temp1_crit": "70000\n",
            },
            "nvme at 71 °C is at its limit",
        ),
    ],
)
def test_what_slows_a_box_down_is_told(tmp_path: Path, files: dict[str, str], words: str) -> None:
    status, seen, advice = line(check_heat(box_of(tmp_path, files)))
    assert status == "warning"
    assert words in seen
    assert advice


def test_a_fan_that_turns_is_not_a_slow_box(tmp_path: Path) -> None:
    fan = "sys/class/thermal/cooling_device0"
    box = box_of(tmp_path, {f"{fan}/type": "pwm-fan\n", f"{fan}/cur_state": "2\n"})
    assert line(check_heat(box))[0] == "ok"


MODES = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
GPU_CLOCK = "sys/class/devfreq/17000000.gpu"


def test_a_jetsons_power_mode_is_told_with_its_gpus_clock(tmp_path: Path) -> None:
    files = {
        "etc/nvpmodel.conf": MODES,
        "var/lib/nvpmodel/status": "pmode:0000\n",
        f"{GPU_CLOCK}/cur_freq": "306000000\n",
        f"{GPU_CLOCK}/max_freq": "612000000\n",
        f"{GPU_CLOCK}/available_frequencies": "306000000 612000000 1020000000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1728000\n",
    }
    box = box_of(tmp_path, files)
    assert line(check_power(box))[:2] == (
        "ok",
        "power mode 15W; MAXN_SUPER gives more (sudo nvpmodel -m 2); "
        "GPU at 306 MHz, up to 612 of 1020 MHz",
    )
    # The cap on the cores is the mode's, and told once.
    assert line(check_heat(box))[0] == "ok"


def test_a_box_without_power_modes_has_no_such_line(tmp_path: Path) -> None:
    assert check_power(box_of(tmp_path)) == []
