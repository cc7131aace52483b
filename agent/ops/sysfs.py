"""Small files of the kernel."""

from __future__ import annotations

from pathlib import Path

_MAX_BYTES = 256


def read_text(path: Path, most_bytes: int = _MAX_BYTES) -> str:
    """Text of a file, stripped; empty where there is none, or where a sensor is off."""
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """A whole number from a file; None where there is none."""
    try:
        return int(read_text(path))
    except ValueError:
        return None
