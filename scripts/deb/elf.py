"""Reads ELF headers: for which machine a library is made and how its segments are aligned."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

MACHINES: Mapping[str, int] = MappingProxyType({"amd64": 62, "arm64": 183})
"""Debian's name of an architecture -> e_machine."""
LEAST_ALIGN: Mapping[str, int] = MappingProxyType({"amd64": 4096, "arm64": 16384})
"""Bytes. The Raspberry Pi 5's kernel has pages of 16 KiB and can't load what is cut finer."""

_MAGIC = b"\x7fELF"
_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_CLASS_64, _LITTLE = 2, 1
_PT_LOAD = 1


@dataclass(frozen=True)
class Elf:
    """What an ELF header says."""

    machine: int
    """e_machine."""
    align: int
    """Smallest p_align of the segments that are loaded, bytes; 0 where there is none."""


def read_elf(path: Path) -> Elf | None:
    """The header of a file; None when it is no ELF. Raises ValueError when it is damaged."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if head[:4] != _MAGIC:
            return None
        if len(head) < _HEADER.size:
            raise ValueError("is cut off inside its ELF header")
        fields = _HEADER.unpack(head)
        if fields[1] != _CLASS_64 or fields[2] != _LITTLE:
            raise ValueError("is not a 64-bit little-endian ELF")
        machine, offset, size, count = fields[5], fields[8], fields[12], fields[13]
        if size < _SEGMENT.size:
            raise ValueError(f"has program headers of {size} bytes, at least 56 are needed")
        file.seek(offset)
        table = file.read(size * count)
    if len(table) < size * count:
        raise ValueError("is cut off inside its program headers")
    segments = [_SEGMENT.unpack_from(table, i * size) for i in range(count)]
    return Elf(machine, min((s[7] for s in segments if s[0] == _PT_LOAD), default=0))


def elf_files(folder: Path) -> Iterator[Path]:
    """Every regular file below that begins as an ELF does, sorted."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) == _MAGIC:
                    yield path


def problems(folder: Path, architecture: str) -> list[str]:
    """What is wrong with the libraries of a package for `amd64` or `arm64`, one line each."""
    found = []
    for path in elf_files(folder):
        name = path.relative_to(folder)
        try:
            elf = read_elf(path)
        except ValueError as error:
            found.append(f"{name}: {error}")
            continue
        if elf is None or elf.machine != MACHINES[architecture]:
            machine = elf.machine if elf else 0
            found.append(f"{name}: is made for ELF machine {machine}, not for {architecture}")
        elif elf.align < LEAST_ALIGN[architecture]:
            found.append(
                f"{name}: its segments are aligned to {elf.align} bytes, "
                f"{LEAST_ALIGN[architecture]} are needed"
            )
    return found
