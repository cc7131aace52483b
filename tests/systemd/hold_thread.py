"""Stops one thread of another process, as a hang would, until that process ends.

A tracer can stop a single thread; a signal stops them all. Run as root: `hold_thread.py TID`.
"""

from __future__ import annotations

import ctypes
import os
import sys

_SEIZE, _INTERRUPT = 0x4206, 0x4207
_WALL = 0x40000000
"""waitpid: also for threads."""


def main() -> int:
    """0 when the thread has ended."""
    thread = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (_SEIZE, _INTERRUPT):
        if libc.ptrace(request, thread, None, None) == -1:
            print(os.strerror(ctypes.get_errno()), file=sys.stderr)
            return 1
    stopped = False
    while True:
        _, status = os.waitpid(thread, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return 0
        if not stopped:
            stopped = True
            print("held", flush=True)


if __name__ == "__main__":
    sys.exit(main())
