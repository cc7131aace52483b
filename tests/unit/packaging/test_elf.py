"""Libraries for another machine, or that a kernel with large pages can't load, are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.deb.elf import elf_files, problems, read_elf
from tests.unit.packaging.elves import elf

X86, ARM = 62, 183


def test_machine_and_smallest_alignment_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(elf(ARM, [65536, 16384]))
    found = read_elf(path)
    assert found is not None
    assert (found.machine, found.align) == (ARM, 16384)


def test_a_note_is_no_segment_that_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(elf(ARM, []))
    found = read_elf(path)
    assert found is not None
    assert found.align == 0


def test_the_interpreter_of_this_test_is_read() -> None:
    found = read_elf(Path(sys.executable).resolve())
    assert found is not None
    assert found.machine in (X86, ARM)
    assert found.align >= 4096


@pytest.mark.parametrize(
    ("data", "architecture", "said"),
    [
        (elf(ARM, [65536]), "arm64", ""),
        (elf(ARM, [16384]), "arm64", ""),
        (elf(ARM, [65536, 4096]), "arm64", "aligned to 4096 bytes, 16384 are needed"),
        (elf(X86, [65536]), "arm64", "ELF machine 62, not for arm64"),
        (elf(ARM, [65536]), "amd64", "ELF machine 183, not for amd64"),
        (elf(X86, [4096]), "amd64", ""),
        (elf(ARM)[:40], "arm64", "cut off inside its ELF header"),
        (elf(ARM)[:70], "arm64", "cut off inside its program headers"),
        (elf(ARM).replace(b"\x7fELF\x02", b"\x7fELF\x01"), "arm64", "not a 64-bit"),
        (b"#!/bin/sh\n", "arm64", ""),
        (b"", "arm64", ""),
    ],
)
def test_problems_name_file_and_fault(
    tmp_path: Path, data: bytes, architecture: str, said: str
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "lib.so.1").write_bytes(data)
    found = problems(tmp_path, architecture)
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert all(line.startswith("deep/lib.so.1: ") for line in found)


def test_files_are_known_by_content_and_links_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(elf())
    (tmp_path / "text.so").write_text("INPUT(libc.so.6)")
    (tmp_path / "link.so").symlink_to("tool")
    (tmp_path / "nowhere.so").symlink_to("missing")
    assert [path.name for path in elf_files(tmp_path)] == ["tool"]
