"""What the FAT partition holds, so that the board's firmware finds the kernel."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.image import appliance
from scripts.image.boards import Board


def lay_out(board: Board, root: Path, version: str, boot: Path) -> None:
    """Fill the folder `boot` from the system tree."""
    if board.name == "rpi":
        _raspberry(board, root, version, boot)
    else:
        _uefi(board, root, version, boot)


def _uefi(board: Board, root: Path, version: str, boot: Path) -> None:
    # The path that every UEFI firmware tries on a disk that it does not know.
    _copy(root / "usr/lib/systemd/boot/efi/systemd-bootaa64.efi", boot / "EFI/BOOT/BOOTAA64.EFI")
    _copy(root / f"boot/vmlinuz-{version}", boot / "funasr/linux")
    _copy(root / f"boot/initrd.img-{version}", boot / "funasr/initrd")
    for name, text in appliance.loader_files(board).items():
        _write(boot / name, text)


def _raspberry(board: Board, root: Path, version: str, boot: Path) -> None:
    """As raspi-firmware's own hooks keep it, which take over at the first kernel update."""
    firmware = sorted((root / "usr/lib/raspi-firmware").iterdir())
    trees = sorted((root / f"usr/lib/linux-image-{version}/broadcom").glob("bcm*.dtb"))
    if not firmware or not trees:
        raise RuntimeError(f"{root}: no Raspberry Pi firmware, or no device trees of {version}")
    for path in (*firmware, *trees):
        _copy(path, boot / path.name)
    for name in (f"vmlinuz-{version}", f"initrd.img-{version}"):
        _copy(root / "boot" / name, boot / name)
    _write(boot / "config.txt", appliance.raspberry_config(version))
    _write(boot / "cmdline.txt", board.command_line() + "\n")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
