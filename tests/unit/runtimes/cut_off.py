"""Does one change of a runtime in a process that is killed before its Nth step on the disk.

    python cut_off.py FOLDER CHANGE KIND WHEEL N

Ends by SIGKILL, or with exit code 0 when the change took fewer steps.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agent.runtimes.install import install_runtime, remove_runtime
from agent.runtimes.places import LinkedPlace, SitePlace
from agent.runtimes.proof import Proof
from agent.runtimes.wheel import this_python

_STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "ctypes.dlsym", "open"}
"""Audit events; `ctypes.dlsym` comes before two folders are exchanged."""


def main(folder: str, change: str, kind: str, wheel: str, steps: str) -> None:
    root = Path(folder)
    place = SitePlace(root) if kind == "checkout" else LinkedPlace(root, "cp311")
    here = this_python()
    left = int(steps)

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event not in _STEPS:
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & os.O_CREAT):
            return
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if change == "install":
        install_runtime(Path(wheel), place, here, lambda f: Proof("", "9", f), lambda _: None)
    else:
        remove_runtime(place)


def each(folder: str, change: str, kind: str, wheel: str, first: str, last: str) -> None:
    """One process for all: forks for each number of steps and prints which were killed."""
    for steps in range(int(first), int(last)):
        child = os.fork()
        if child == 0:
            main(f"{folder}/{steps}/lib", change, kind, wheel, str(steps))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(steps, "killed" if os.WIFSIGNALED(status) else status, flush=True)


if __name__ == "__main__":
    each(*sys.argv[1:])
