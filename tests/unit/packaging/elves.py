"""ELF files made for the tests: headers and nothing to run."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def elf(machine: int = 183, aligns: Sequence[int] = (65536,)) -> bytes:
    """A 64-bit little-endian shared object with one PT_LOAD for each of `aligns`, and a note."""
    segments = b"".join(struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, align) for align in aligns)
    segments += struct.pack("<IIQQQQQQ", 4, 4, 0, 0, 0, 0, 0, 4)
    count = len(aligns) + 1
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return head + segments
