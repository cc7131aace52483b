"""Makes this machine run programs of arm64."""

from __future__ import annotations

import platform
from pathlib import Path

from scripts.image.commands import CommandFailed, run

_BINFMT = Path("/proc/sys/fs/binfmt_misc")


def ready() -> None:
    """Switch the kernel's emulation on where it is not. Raises RuntimeError."""
    if platform.machine() == "aarch64":
        return
    try:
        if not (_BINFMT / "register").exists():
            run(["mount", "-t", "binfmt_misc", "none", str(_BINFMT)])
        if not (_BINFMT / "qemu-aarch64").exists():
            run(["update-binfmts", "--enable", "qemu-aarch64"])
    except CommandFailed as error:
        raise RuntimeError(f"programs of arm64 can't be run here (binfmt_misc): {error}") from None
