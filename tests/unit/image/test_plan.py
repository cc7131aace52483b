"""How the disks are divided."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.image.boards import BOARDS, MIB, Board

SFDISK = shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin:/bin")
boards = pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)


@boards
def test_partitions_follow_each_other_and_fit_the_disk(board: Board) -> None:
    plan = board.plan(900 * MIB)
    assert plan.boot.start_mib == 1
    assert plan.root.start_mib == plan.boot.start_mib + plan.boot.size_mib
    assert plan.size_mib > plan.root.start_mib + plan.root.size_mib


@boards
def test_the_root_has_room_beyond_its_files(board: Board) -> None:
    assert board.plan(900 * MIB).root.size_mib >= 900 * 4 // 3 + 256


@boards
def test_the_kernel_finds_its_root_by_label(board: Board) -> None:
    words = board.command_line().split()
    assert "root=LABEL=funasr-root" in words
    assert words.index("console=tty0") < words.index(f"console={board.console}")


@boards
@pytest.mark.skipif(SFDISK is None, reason="sfdisk is missing (apt install fdisk)")
def test_sfdisk_makes_the_planned_table(board: Board, tmp_path: Path) -> None:
    plan = board.plan(300 * MIB)
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(plan.size_mib * MIB)
    script = plan.sfdisk_script()
    subprocess.run([str(SFDISK), "-q", str(image)], input=script, text=True, check=True)
    done = subprocess.run([str(SFDISK), "--json", str(image)], capture_output=True, check=True)
    table = json.loads(done.stdout)["partitiontable"]
    made = [(part["start"] * 512, part["size"] * 512) for part in table["partitions"]]
    wanted = [(part.start_mib * MIB, part.size_mib * MIB) for part in (plan.boot, plan.root)]
    assert table["label"] == board.table
    assert made == wanted


def test_only_the_raspberry_pi_has_a_dos_table_with_a_boot_flag() -> None:
    assert "bootable" in BOARDS["rpi"].plan(MIB).sfdisk_script()
    assert "bootable" not in BOARDS["uefi-arm64"].plan(MIB).sfdisk_script()
    assert BOARDS["rpi"].table == "dos"
