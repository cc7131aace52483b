"""What the checks look at: files of the system, commands, the clock. Tests put others in place."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from agent.config import PACKAGE_ROOT

TELEMETRY_SWITCHES = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
_MAX_TEXT = 256 * 1024
"""Bytes read of a file of the system, and of what a command prints."""
_MAX_NAMES = 512
"""Paths that a pattern may give."""
_KILL_WAIT_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of a command."""

    code: int | None
    """Exit status, negative for a signal; None: not started, or killed when its time was up."""
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False


class RunCommand(Protocol):
    """Runs a command to its end or to its time limit; never raises."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        stdin: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Outcome:
        """`environ` replaces the environment; None keeps it."""


def run_command(
    command: Sequence[str],
    *,
    timeout_s: float,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
) -> Outcome:
    """The `RunCommand` of a real box.

    Output goes to memory and not to pipes or a disk: a grandchild that keeps a pipe open, or a
    full disk, must not stop the check.
    """
    out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environ, cwd="/"
        )
    except OSError as error:
        os.close(out)
        os.close(err)
        return Outcome(None, stderr=f"{command[0]}: {(error.strerror or str(error)).lower()}")
    timed_out = False
    try:
        process.communicate(stdin.encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        _kill_tree(process)
    finally:
        stdout, stderr = _text(out), _text(err)
    return Outcome(None if timed_out else process.returncode, stdout, stderr, timed_out)


@dataclass(frozen=True)
class Box:
    """The machine under the checks."""

    root: Path = Path("/")
    """Where proc, sys, dev, etc and run lie."""
    run: RunCommand = run_command
    now: Callable[[], float] = time.time
    """Wall clock, UNIX seconds."""
    python_path: Sequence[str] | None = None
    """Folders whose installed distributions are looked at; None: those of this interpreter."""
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs
    may_open: Callable[[Path], bool] = field(default=lambda path: os.access(path, os.R_OK))

    def path(self, name: str) -> Path:
        """`proc/cpuinfo` and the like under the root."""
        return self.root / name

    def read(self, name: str) -> str:
        """Text of a file of the system, stripped, its first 256 KB; empty if it can't be read."""
        try:
            with self.path(name).open("rb") as file:
                data = file.read(_MAX_TEXT)
        except OSError:
            return ""
        return data.decode("utf-8", "replace").strip("\0\n\t ")

    def read_number(self, name: str) -> int | None:
        """A whole number from a file of the system; None if there is none."""
        try:
            return int(self.read(name))
        except ValueError:
            return None

    def names(self, pattern: str) -> list[str]:
        """Paths below the root that match, as `read` takes them, sorted, at most 512."""
        try:
            found = sorted(self.root.glob(pattern))[:_MAX_NAMES]
        except OSError:
            return []
        return [str(path.relative_to(self.root)) for path in found]

    def exists(self, name: str) -> bool:
        """Whether there is such a path."""
        return os.path.lexists(self.path(name))

    def python(
        self, code: str, *, timeout_s: float, stdin: str = "", drop: Sequence[str] = ()
    ) -> Outcome:
        """Run `code` in an interpreter like this one that finds this package.

        `drop` names variables taken out of its environment. ONNX Runtime's telemetry is off
        there, whatever imports it.
        """
        environ = {**os.environ, **dict.fromkeys(TELEMETRY_SWITCHES, "1")}
        environ = {name: value for name, value in environ.items() if name not in drop}
        places = [str(PACKAGE_ROOT), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        command = [sys.executable, "-c", code]
        return self.run(command, timeout_s=timeout_s, stdin=stdin, environ=environ)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []
    process.kill()
    for member in family:
        try:
            member.kill()
        except psutil.Error:
            continue
    try:
        process.wait(_KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        return  # stuck in the kernel; it ends when its driver lets it


def _text(descriptor: int) -> str:
    data = os.pread(descriptor, _MAX_TEXT, 0)
    os.close(descriptor)
    return data.decode("utf-8", "replace")
