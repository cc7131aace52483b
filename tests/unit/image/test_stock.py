"""The folder for a vendor's system: its script runs here with stand-ins for dpkg and systemctl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.image import stock

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = (ROOT / "config.yaml").read_text(encoding="utf-8")
NAMES = (
    "funasr-agent_0.1.0_all.deb",
    "funasr-agent-runtime-cp311_0.1.0_arm64.deb",
    "funasr-agent-runtime-cp313_0.1.0_arm64.deb",
)
LINE = "console=tty1 root=PARTUUID=1-02 rootwait"
STARTED = (
    " systemd.run=/boot/firmware/funasr-agent/first-boot.sh"
    " systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
)
STAND_INS = {
    "dpkg": 'case $1 in --print-architecture) echo "$ARCH" ;; *) echo "dpkg $*" >>"$CALLS"\n'
    '[ -z "${DPKG_FAILS:-}" ] || { echo "dpkg: no space left"; exit 1; } ;; esac',
    "systemctl": 'echo "systemctl $*" >>"$CALLS"',
    "python3": 'echo "$PYTHON"',
    "hostname": "echo box",
    "id": 'echo "${WHO:-0}"',
}


class Vendor:
    """A system with a boot partition that holds the folder."""

    def __init__(self, path: Path) -> None:
        packages = path / "deb"
        packages.mkdir()
        for name in NAMES:
            (packages / name).write_text(name)
        self.root, self.calls = path / "root", path / "calls"
        self.boot = self.root / "boot/firmware"
        (self.root / "run/systemd/system").mkdir(parents=True)
        self.folder = stock.lay_out(packages, DEFAULTS, self.boot)
        self.line = self.boot / "cmdline.txt"
        self.line.write_text(LINE + STARTED + "\n")
        self._bin = path / "bin"
        self._bin.mkdir()
        for name, text in STAND_INS.items():
            (self._bin / name).write_text(f"#!/bin/sh\n{text}\n")
            (self._bin / name).chmod(0o755)

    def boots(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "FUNASR_ROOT": str(self.root),
            "CALLS": str(self.calls),
            "ARCH": "arm64",
            "PYTHON": "311",
            **environment,
        }
        command = ["sh", str(self.folder / stock.SCRIPT)]
        return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path)


@pytest.mark.parametrize("python", ["311", "313"])
def test_the_runtime_of_the_systems_python_is_installed(vendor: Vendor, python: str) -> None:
    done = vendor.boots(PYTHON=python)
    assert done.returncode == 0, done.stdout + done.stderr
    installed = vendor.calls.read_text().splitlines()[0]
    assert f"funasr-agent-runtime-cp{python}_0.1.0_arm64.deb" in installed
    assert "funasr-agent_0.1.0_all.deb" in installed
    assert installed.count(".deb") == 2
    assert "systemctl --no-block restart funasr-agent.service" in vendor.calls.read_text()
    assert "https://box.local" in done.stdout


def test_it_sets_up_the_same_listeners_and_rule_as_the_image(vendor: Vendor) -> None:
    vendor.boots()
    for name, place in stock.FILES.items():
        assert (vendor.root / place).read_bytes() == (vendor.folder / name).read_bytes()


def test_a_configuration_that_is_there_stays(vendor: Vendor) -> None:
    mine = vendor.root / "etc/funasr-agent/config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# mine\n")
    assert vendor.boots().returncode == 0
    assert mine.read_text() == "# mine\n"


def test_it_takes_itself_out_of_the_kernels_command_line(vendor: Vendor) -> None:
    vendor.boots()
    assert vendor.line.read_text() == LINE + "\n"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"PYTHON": "39"}, "no runtime for Python cp39 on arm64"),
        ({"ARCH": "armhf"}, "no runtime for Python cp311 on armhf"),
        ({"WHO": "1000"}, "this needs root"),
        ({"DPKG_FAILS": "1"}, "dpkg could not install the packages"),
    ],
)
def test_a_failure_is_told_and_the_next_start_is_an_ordinary_one(
    vendor: Vendor, environment: dict[str, str], told: str
) -> None:
    done = vendor.boots(**environment)
    assert done.returncode != 0
    assert told in done.stdout
    assert told in (vendor.folder / "first-boot.log").read_text()
    assert vendor.line.read_text() == LINE + "\n"


def test_a_damaged_package_is_not_installed(vendor: Vendor) -> None:
    (vendor.folder / NAMES[0]).write_text("half")
    done = vendor.boots()
    assert done.returncode != 0
    assert "is damaged" in done.stdout
    assert not vendor.calls.exists()


def test_packages_without_a_runtime_are_no_folder(tmp_path: Path) -> None:
    packages = tmp_path / "deb"
    packages.mkdir()
    (packages / NAMES[0]).touch()
    with pytest.raises(RuntimeError, match="at least one runtime"):
        stock.lay_out(packages, DEFAULTS, tmp_path)


def test_a_second_folder_takes_the_firsts_place(vendor: Vendor, tmp_path: Path) -> None:
    rest = vendor.folder / "funasr-agent-runtime-cp39_0.0.9_arm64.deb"
    rest.touch()
    stock.lay_out(tmp_path / "deb", DEFAULTS, vendor.boot)
    assert not rest.exists()
