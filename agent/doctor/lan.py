"""The box's name and addresses: how others on the network find it."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Sequence

from agent.config import Config, is_loopback
from agent.doctor.box import Box
from agent.doctor.report import Check, ok, warning

NAME = "name"
RESOLVE_LIMIT_S = 5.0

Resolve = Callable[[str], Sequence[str]]
"""Name -> addresses; none when it does not resolve in time."""


def resolve(name: str, limit_s: float = RESOLVE_LIMIT_S) -> list[str]:
    """The `Resolve` of a real box; a resolver that hangs is left behind in its thread."""
    answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answer.put([])
        else:
            answer.put(list(dict.fromkeys(str(item[4][0]) for item in found)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answer.get(timeout=limit_s)
    except queue.Empty:
        return []


def lan_addresses() -> list[str]:
    """Addresses of this box that others may reach it at."""
    import psutil

    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            address = ipaddress.ip_address(entry.address.split("%")[0])
            if not (address.is_loopback or address.is_link_local):
                found.append(str(address))
    return sorted(set(found), key=lambda text: (":" in text, text))


def check_name(
    config: Config,
    box: Box,
    host: str | None = None,
    find: Resolve = resolve,
    addresses: Callable[[], list[str]] = lan_addresses,
) -> list[Check]:
    """One line. `host` is the name of this box; None: as the system says."""
    short = (socket.gethostname() if host is None else host).split(".")[0]
    reachable = addresses()
    where = f"addresses {', '.join(reachable)}" if reachable else "no address on a network"
    if all(is_loopback(listener.host) for listener in config.listen):
        seen = f"{short or 'no name'}, {where}; only this box itself is served"
        return [ok(NAME, seen)]
    if not reachable:
        advice = "connect a network if others are to reach the box"
        return [warning(NAME, f"{short}, {where}", advice)]
    if short in ("", "localhost"):
        advice = "sudo hostnamectl set-hostname NAME"
        return [warning(NAME, f"the box has no name of its own; {where}", advice)]
    local = f"{short}.local"
    if find(local):
        return [ok(NAME, f"{local} resolves; {where}")]
    if box.exists("run/avahi-daemon/socket") or box.exists("run/avahi-daemon/pid"):
        return [ok(NAME, f"{local} is told to the network by avahi; {where}")]
    advice = f"apt install avahi-daemon, or open the box by address: {reachable[0]}"
    return [warning(NAME, f"{local} does not resolve; {where}", advice)]
