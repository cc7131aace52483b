"""Runs the programs that the image is made with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

_TAIL_LINES = 25
_SYSTEM_PATH = ":/usr/sbin:/sbin"


class CommandFailed(RuntimeError):
    """A program ended with an error; the message has its last lines."""


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, given: str | None = None
) -> str:
    """Its standard output. Raises CommandFailed."""
    # A user's PATH may lack the folders of sfdisk and mkfs.
    path = {"PATH": os.environ.get("PATH", "") + _SYSTEM_PATH}
    done = subprocess.run(
        command,
        env={**os.environ, **path, **(environment or {})},
        input=given,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-_TAIL_LINES:]
        shown = " ".join(command)
        raise CommandFailed(f"{shown[:200]}: exit {done.returncode}\n" + "\n".join(lines))
    return done.stdout


def missing(programs: Mapping[str, str]) -> list[str]:
    """Packages to install for those programs (program -> package) that are not here."""
    path = os.environ.get("PATH", "") + _SYSTEM_PATH
    return sorted({pkg for name, pkg in programs.items() if shutil.which(name, path=path) is None})


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
