"""Writes the disk image: table, FAT and ext4, as plain files; nothing is mounted."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.image.boards import BOOT_LABEL, MIB, ROOT_LABEL, DiskPlan
from scripts.image.commands import run

_COPY_BYTES = 4 * MIB


def write_image(plan: DiskPlan, boot: Path, root: Path, image: Path, scratch: Path) -> None:
    """`image`: a disk after `plan` whose partitions hold the folders `boot` and `root`."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(plan.size_mib * MIB)
    run(["sfdisk", "--quiet", str(image)], given=plan.sfdisk_script())
    fat = scratch / "boot.vfat"
    make_fat(plan.boot.size_mib, boot, fat)
    offset = f"offset={plan.root.start_mib * MIB}"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-m", "1"]
    command += ["-E", f"{offset},root_owner=0:0", "-d", str(root)]
    run([*command, str(image), f"{plan.root.size_mib}M"])
    _copy_into(fat, image, plan.boot.start_mib * MIB)
    fat.unlink()


def make_fat(size_mib: int, folder: Path, image: Path) -> None:
    """A FAT32 file system with what is in `folder`."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size_mib * MIB)
    run(["mkfs.vfat", "-F", "32", "-n", BOOT_LABEL, str(image)])
    names = sorted(str(path) for path in folder.iterdir())
    # -Q: an error in one file ends it with an error, instead of a question.
    run(["mcopy", "-s", "-Q", "-i", str(image), *names, "::"], {"MTOOLS_SKIP_CHECK": "1"})


def _copy_into(source: Path, image: Path, offset: int) -> None:
    """Copy, leaving holes where the source is empty."""
    with source.open("rb") as reader, image.open("r+b") as writer:
        while block := reader.read(_COPY_BYTES):
            if any(block):
                writer.seek(offset)
                writer.write(block)
            offset += len(block)
        os.fsync(writer.fileno())
