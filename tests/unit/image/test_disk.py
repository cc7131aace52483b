"""A disk image is written and read again with the file systems' own tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.image import boot_files
from scripts.image.boards import BOARDS, MIB
from scripts.image.commands import missing
from scripts.image.disk import write_image

LACKING = missing(
    {"sfdisk": "fdisk", "mkfs.vfat": "dosfstools", "mcopy": "mtools", "debugfs": "e2fsprogs"}
)
needs_tools = pytest.mark.skipif(bool(LACKING), reason=f"missing: apt install {' '.join(LACKING)}")
VERSION = "6.1.0-1-arm64"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A root tree with what the boot partitions are filled from."""
    root = tmp_path / "root"
    for name in (
        f"boot/vmlinuz-{VERSION}",
        f"boot/initrd.img-{VERSION}",
        "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        "usr/lib/raspi-firmware/start4.elf",
        f"usr/lib/linux-image-{VERSION}/broadcom/bcm2711-rpi-4-b.dtb",
        "etc/hostname",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@needs_tools
def test_both_file_systems_hold_what_was_given(system: Path, tmp_path: Path) -> None:
    board = BOARDS["uefi-arm64"]
    boot, image = tmp_path / "boot", tmp_path / "disk.img"
    boot_files.lay_out(board, system, VERSION, boot)
    plan = board.plan(MIB)
    write_image(plan, boot, system, image, tmp_path)
    where = f"{image}@@{plan.boot.start_mib * MIB}"
    read = subprocess.run(
        ["mtype", "-i", where, "::loader/entries/funasr.conf"], capture_output=True, text=True
    )
    assert f"options {board.command_line()}" in read.stdout
    debugfs = shutil.which("debugfs", path="/usr/sbin:/sbin") or "debugfs"
    offset = plan.root.start_mib * MIB
    read = subprocess.run(
        [debugfs, "-R", "cat /etc/hostname", f"{image}?offset={offset}"],
        capture_output=True,
        text=True,
    )
    assert read.stdout == "etc/hostname"
    assert image.stat().st_blocks * 512 < image.stat().st_size / 4


def test_uefi_firmware_finds_its_loader_on_an_unknown_disk(system: Path, tmp_path: Path) -> None:
    boot_files.lay_out(BOARDS["uefi-arm64"], system, VERSION, tmp_path / "boot")
    assert (tmp_path / "boot/EFI/BOOT/BOOTAA64.EFI").is_file()
    assert (tmp_path / "boot/funasr/linux").read_text() == f"boot/vmlinuz-{VERSION}"


def test_the_raspberry_pi_finds_firmware_device_tree_and_kernel(
    system: Path, tmp_path: Path
) -> None:
    boot = tmp_path / "boot"
    boot_files.lay_out(BOARDS["rpi"], system, VERSION, boot)
    lines = (boot / "config.txt").read_text().splitlines()
    assert "arm_64bit=1" in lines
    kernel = next(line.partition("=")[2] for line in lines if line.startswith("kernel="))
    initramfs = next(line.partition(" ")[2] for line in lines if line.startswith("initramfs "))
    names = {path.name for path in boot.iterdir()}
    assert {kernel, initramfs, "start4.elf", "bcm2711-rpi-4-b.dtb"} <= names
    assert (boot / "cmdline.txt").read_text() == BOARDS["rpi"].command_line() + "\n"


def test_a_tree_without_device_trees_gives_no_raspberry_image(system: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="device trees of 6"):
        boot_files.lay_out(BOARDS["rpi"], system, "6.9", tmp_path / "boot")
