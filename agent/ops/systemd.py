"""systemd's side of a service: notifications, the watchdog's period, inherited sockets.

The protocols of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3), over a plain socket.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_log = logging.getLogger(__name__)

_FIRST_LISTEN_FD = 3
_MAX_STATUS = 1000
"""Characters of a status text; longer ones are cut."""


class Notifier:
    """Tells the service manager how the agent is. Silent where there is no service manager.

    Every method returns whether the message was taken; none blocks, none raises.
    """

    def __init__(self, address: str = "", clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """`address`: a socket's path; `@name` for an abstract one; empty: nobody listens."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._clock_ns = clock_ns
        self._complained = False
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one that NOTIFY_SOCKET names. Takes the variable away: children must not speak for
        the agent."""
        return cls(environ.pop("NOTIFY_SOCKET", ""))

    @property
    def is_heard(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    def ready(self) -> bool:
        """The start, or a reload, has ended."""
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """What `systemctl status` shows, in one line."""
        return self._send("STATUS=" + " ".join(text.split())[:_MAX_STATUS])

    def stopping(self) -> bool:
        """The stop has begun."""
        return self._send("STOPPING=1")

    def reloading(self) -> bool:
        """A reload has begun; `ready` ends it."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={self._clock_ns() // 1000}")

    def extend(self, seconds: float) -> bool:
        """The start, or the stop, needs so long from now on."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def watchdog(self) -> bool:
        """The agent is well."""
        return self._send("WATCHDOG=1")

    def trigger_watchdog(self) -> bool:
        """The agent can't go on: restart it now, as if the watchdog had run out."""
        return self._send("WATCHDOG=trigger")

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except BlockingIOError:
            return False  # its queue is full; whoever cares says it again
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning("the service manager can't be told %r: %s", message, error)
            return False
        return True


def watchdog_period_s(environ: MutableMapping[str, str], pid: int) -> float | None:
    """Seconds within which the watchdog must be fed; None when it need not be."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    period = environ.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if period.isdecimal() and int(period) else None


def inherited_sockets(environ: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """Listening sockets that systemd opened for this process, in the order of its socket unit.

    Takes the variables away, so that no child believes that they are meant for it.
    """
    count, owner = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or owner != str(pid):
        return []
    sockets = []
    for descriptor in range(_FIRST_LISTEN_FD, _FIRST_LISTEN_FD + int(count)):
        os.set_inheritable(descriptor, False)
        sockets.append(socket.socket(fileno=descriptor))
    return sockets
