"""The files in systemd/: what systemd itself says of them, and what the agent relies on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config import Config

FOLDER = Path(__file__).parents[2] / "systemd"
MOST_EXPOSURE = 2.0
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def settings(name: str, section: str = "Service") -> dict[str, list[str]]:
    """Key -> values, in the order of the file."""
    found: dict[str, list[str]] = {}
    inside = ""
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            inside = line.strip("[]")
        elif "=" in line and not line.startswith("#") and inside == section:
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a device with NVIDIA's drop-in, with a command that is there."""
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace("/usr/bin/funasr-agent", "/bin/true"))
    drop_ins = tmp_path / "funasr-agent.service.d"
    drop_ins.mkdir()
    (tmp_path / "jetson.conf").rename(drop_ins / "jetson.conf")
    return tmp_path


def analyze(*arguments: str, units: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_COLORS": "0"},
        timeout=60,
    )
    return done.stdout.strip()


@needs_systemd
def test_systemd_finds_nothing_to_say(installed: Path) -> None:
    names = ("funasr-agent.service", "funasr-agent-verify.service", "funasr-agent-verify.timer")
    said = analyze("verify", "--man=no", *(str(installed / n) for n in names), units=installed)
    assert said == ""


@needs_systemd
@pytest.mark.parametrize("name", ["funasr-agent.service", "funasr-agent-verify.service"])
def test_the_exposure_is_small(installed: Path, name: str) -> None:
    said = analyze("security", "--offline=yes", str(installed / name), units=installed)
    if "unrecognized option" in said:
        pytest.skip("systemd-analyze looks at files from version 250 on")
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= MOST_EXPOSURE


def test_a_hanging_lane_is_noticed_before_the_watchdog_runs_out() -> None:
    period_s = seconds(settings("funasr-agent.service")["WatchdogSec"][0])
    assert Config().inference.job_limit_s < period_s / 1.5


def test_a_stop_has_time_for_the_last_finals() -> None:
    assert seconds(settings("funasr-agent.service")["TimeoutStopSec"][0]) > (
        2 * Config().shutdown.timeout_s + 20
    )


def test_a_bad_configuration_is_not_tried_again() -> None:
    service = settings("funasr-agent.service")
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["78"]
    assert settings("funasr-agent.service", "Unit")["StartLimitBurst"]


@pytest.mark.parametrize("name", ["funasr-agent.service", "funasr-agent-verify.service"])
def test_the_user_and_its_groups_are_made_before_the_units_need_them(name: str) -> None:
    service = settings(name)
    made = (FOLDER / "sysusers.conf").read_text(encoding="utf-8")
    assert f"u {service['User'][0]} " in made
    for group in service["SupplementaryGroups"][0].split():
        assert f"m {service['User'][0]} {group}\n" in made


def test_telemetry_is_off_wherever_the_engine_is_loaded() -> None:
    for name in ("funasr-agent.service", "funasr-agent-verify.service"):
        assert "ORT_DISABLE_TELEMETRY=1" in settings(name)["Environment"]
