"""Python: its version, whether it is made for this machine, where it is installed."""

from __future__ import annotations

import platform
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.box import Box
from agent.doctor.report import Check, failure, gathered, warning

NAME = "python"
OLDEST, NEWEST = (3, 10), (3, 13)
"""Versions that every library has wheels for."""
MACHINES = ("x86_64", "aarch64")
_ELF_MACHINES = {3: "x86", 62: "x86_64", 40: "arm", 183: "aarch64", 243: "riscv"}
_ELF_HEADER = 20


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter says of itself."""

    version: tuple[int, int, int]
    executable: Path
    bits: int
    """Of a pointer."""
    machine: str
    """As the kernel calls it."""
    prefix: str
    base_prefix: str

    @classmethod
    def of_this_process(cls) -> Interpreter:
        """The one that runs this."""
        major, minor, micro = sys.version_info[:3]
        return cls(
            (major, minor, micro),
            Path(sys.executable),
            struct.calcsize("P") * 8,
            platform.machine(),
            sys.prefix,
            sys.base_prefix,
        )


def check_python(box: Box, python: Interpreter) -> list[Check]:
    """One line."""
    problems = [*_version_problems(python), *_machine_problems(box, python)]
    version = ".".join(map(str, python.version))
    place = "the system's Python"
    if python.prefix != python.base_prefix:
        place = f"virtual environment {python.prefix}"
    seen = [f"{version}, {python.bits} bit on {python.machine or 'an unknown machine'}", place]
    return [gathered(NAME, seen, problems)]


def _version_problems(python: Interpreter) -> list[Check]:
    span = ".".join(map(str, OLDEST)) + " to " + ".".join(map(str, NEWEST))
    if python.version[:2] < OLDEST:
        return [failure(NAME, "too old", f"install Python {span} and set up again")]
    if python.version[:2] > NEWEST:
        advice = f"install Python {span}: some libraries have no wheels for newer ones yet"
        return [warning(NAME, "newer than what is tested", advice)]
    return []


def _machine_problems(box: Box, python: Interpreter) -> list[Check]:
    if python.bits == 32:
        kind = "a 32-bit system"
        if python.machine in MACHINES:
            kind = "a 32-bit Python on a 64-bit kernel"
        advice = "install the 64-bit image of the system: ONNX Runtime has no 32-bit build"
        return [failure(NAME, kind, advice)]
    made_for, runs_on = elf_machine(python.executable), _processor(box)
    if runs_on and made_for and made_for not in runs_on:
        advice = (
            f"install the image for {runs_on[0]}: emulated, recognition takes many times longer"
        )
        seen = f"made for {made_for} and emulated on another processor"
        return [warning(NAME, seen, advice)]
    if python.machine not in MACHINES:
        advice = f"use a box with {' or '.join(MACHINES)}: others have no wheels of ONNX Runtime"
        return [warning(NAME, "a machine without wheels", advice)]
    return []


def elf_machine(executable: Path) -> str:
    """Machine that a program is made for; empty when the file does not say."""
    try:
        with executable.resolve().open("rb") as file:
            header = file.read(_ELF_HEADER)
    except (OSError, RuntimeError):  # a loop of links is a RuntimeError before 3.13
        return ""
    if len(header) < _ELF_HEADER or not header.startswith(b"\x7fELF"):
        return ""
    order = ">H" if header[5] == 2 else "<H"
    return _ELF_MACHINES.get(struct.unpack_from(order, header, 18)[0], "")


def _processor(box: Box) -> tuple[str, ...]:
    """Machines that the processor itself runs; empty when /proc/cpuinfo does not tell.

    Emulators answer uname for the program but often show the real processor here.
    """
    text = box.read("proc/cpuinfo")
    if "CPU implementer" in text or "VirtualApple" in text:
        return ("aarch64", "arm")
    if "vendor_id" in text and ("GenuineIntel" in text or "AuthenticAMD" in text):
        return ("x86_64", "x86")
    return ()
