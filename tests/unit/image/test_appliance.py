"""What the image sets up around the agent."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from agent.config_loader import load_config
from scripts.image import appliance
from scripts.image.boards import BOARDS, Board

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = (ROOT / "config.yaml").read_text(encoding="utf-8")
boards = pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)


def test_the_agent_takes_the_images_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(appliance.agent_config(DEFAULTS), encoding="utf-8")
    config = load_config(path, environ={})
    assert [(item.port, item.tls) for item in config.listen] == [
        (80, False),
        (443, True),
        (10095, True),
        (10096, False),
    ]
    assert str(config.state_dir) == "/var/lib/funasr-agent"


def test_the_network_is_served_and_asked_for_the_token(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(appliance.agent_config(DEFAULTS), encoding="utf-8")
    config = load_config(path, environ={})
    assert {item.host for item in config.listen} == {"0.0.0.0"}
    assert config.auth.mode == "token"
    assert config.funasr.allow == "private"


@boards
def test_no_two_boxes_share_an_identity(board: Board) -> None:
    files = appliance.files(board, DEFAULTS)
    assert files["etc/machine-id"][0] == ""
    assert not [name for name in files if "ssh_host" in name]
    assert "ssh-keygen -A" in files["usr/lib/systemd/system/funasr-image-keys.service"][0]


@boards
def test_every_placeholder_is_filled_in(board: Board) -> None:
    for name, (text, _mode) in appliance.files(board, DEFAULTS).items():
        assert not re.search(r"@[A-Z]+@", text), name


@boards
def test_secrets_on_the_boot_partition_are_roots_only(board: Board) -> None:
    lines = [line.split() for line in appliance.fstab(board).splitlines()]
    options = {place: options for _, place, _, options, *_ in lines}
    assert "umask=0077" in options[board.boot_mount]
    assert "nofail" in options[board.boot_mount]


@boards
def test_telemetry_is_off_for_every_program(board: Board) -> None:
    assert appliance.files(board, DEFAULTS)["etc/environment"][0] == "ORT_DISABLE_TELEMETRY=1\n"


def test_the_announced_ports_are_those_that_are_served() -> None:
    tree = ElementTree.fromstring(appliance.AVAHI_SERVICE)
    announced = {int(port.text or "") for port in tree.iter("port")}
    assert announced <= {listener.port for listener in appliance.IMAGE_LISTENERS}


@boards
def test_shell_scripts_of_the_box_are_sound(board: Board, tmp_path: Path) -> None:
    for name, (text, mode) in appliance.files(board, DEFAULTS).items():
        if text.startswith("#!/bin/sh"):
            path = tmp_path / Path(name).name
            path.write_text(text, encoding="utf-8")
            assert mode == 0o755, name
            subprocess.run(["sh", "-n", str(path)], check=True)


@boards
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_has_nothing_to_say_about_the_units(board: Board, tmp_path: Path) -> None:
    paths = []
    for name, (text, _mode) in appliance.files(board, DEFAULTS).items():
        if Path(name).name in appliance.UNITS:
            # The programs are on the box only.
            text = re.sub(r"^(ExecStart\w*=-?)\S+", r"\1/bin/true", text, flags=re.M)
            path = tmp_path / Path(name).name
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True
    )
    mine = [line for line in done.stderr.splitlines() if "funasr-image" in line]
    assert mine == []
    assert len(paths) == len(appliance.UNITS)


def test_the_settings_template_sets_nothing() -> None:
    from scripts.image.device import settings

    assert settings.parse(appliance.SETTINGS_TEMPLATE.encode()) == (settings.Settings(), [])
