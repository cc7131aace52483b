"""Does a change of a runtime in processes that are killed before their Nth step on the disk.

python cut_off.py FOLDER CHANGE KIND WHEEL
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

from agent.runtimes.install import install_runtime, remove_runtime
from agent.runtimes.places import LinkedPlace, SitePlace
from agent.runtimes.proof import Proof
from agent.runtimes.wheel import this_python

_STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "ctypes.dlsym", "open"}
"""Audit events; `ctypes.dlsym` comes before two folders are exchanged."""


def main(folder: str, change: str, kind: str, wheel: str, steps: int) -> None:
    root = Path(folder)
    place = SitePlace(root) if kind == "checkout" else LinkedPlace(root, "cp311")
    here = this_python()
    left = steps

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


def each(folder: str, change: str, kind: str, wheel: str) -> None:
    """Copy FOLDER/start to FOLDER/0, 1, ... and do the change there, with as many steps, until
    one goes through; prints how each ended."""
    for steps in itertools.count():
        shutil.copytree(f"{folder}/start", f"{folder}/{steps}", symlinks=True)
        child = os.fork()
        if child == 0:
            main(f"{folder}/{steps}/lib", change, kind, wheel, steps)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(steps, "killed" if killed else status, flush=True)
        if not killed:
            break


if __name__ == "__main__":
    each(*sys.argv[1:])
