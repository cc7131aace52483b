"""The ports of the listeners: free, ours, or taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import psutil

from agent import __version__
from agent.config import Config, Listener
from agent.doctor.daemon import Ask, RunningAgent, ask_port
from agent.doctor.report import Check, failure, ok, warning

FindHolder = Callable[[int], str]
"""Port -> the program that listens there, in words; empty when this user may not know."""
TryToBind = Callable[[Listener], OSError | None]
"""Why a listener can't be opened; None: it can."""


def holder_of(port: int) -> str:
    """The `FindHolder` of a real box; other users' programs are shown to root only."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return ""
    for item in connections:
        if item.status != psutil.CONN_LISTEN or not item.laddr or not item.pid:
            continue
        if item.laddr.port == port:
            try:
                return f"{psutil.Process(item.pid).name()} (process {item.pid})"
            except psutil.Error:
                return f"process {item.pid}"
    return ""


def check_ports(
    config: Config,
    holder: FindHolder = holder_of,
    ask: Ask = ask_port,
    bind: TryToBind | None = None,
) -> list[Check]:
    """One line a listener."""
    lines = []
    for i, listener in enumerate(config.listen):
        error = (bind or try_to_bind)(listener) if listener.port else None
        taken = error is not None and error.errno in (errno.EADDRINUSE, errno.EACCES)
        agent = ask(listener) if taken else None
        lines.append(_listener(i, listener, error, agent, holder))
    return lines


def _listener(
    i: int,
    listener: Listener,
    error: OSError | None,
    agent: RunningAgent | None,
    holder: FindHolder,
) -> Check:
    name = f"port {listener.port}"
    key = f"listen.{i}"
    where = f"{listener.host or 'every address'}{' with TLS' if listener.tls else ''}"
    if not listener.port:
        return ok(name, f"the system chooses one on {where} ({key}.port)")
    if error is None:
        return ok(name, f"free on {where}")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        seen = f"this machine has no address {listener.host}"
        return failure(name, seen, f"put one of its addresses, or 0.0.0.0, into {key}.host")
    if agent is not None and agent.version not in ("", __version__):
        seen = f"funasr-agent {agent.version} serves on {where}, {__version__} is installed"
        return warning(name, seen, "restart it: systemctl restart funasr-agent")
    if agent is not None:
        return ok(name, f"funasr-agent {agent.version} serves on {where}".replace("  ", " "))
    if error.errno == errno.EADDRINUSE:
        other = holder(listener.port) or "another program (run the check with sudo to see which)"
        advice = f"stop it, or choose another port: {key}.port"
        return failure(name, f"taken on {where} by {other}", advice)
    if error.errno == errno.EACCES:
        advice = (
            f"choose one from 1024 up ({key}.port), or give the service "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE and run this check with sudo"
        )
        return failure(name, "this user may not open ports below 1024", advice)
    reason = error.strerror or str(error)
    return failure(name, f"can't be opened on {where}: {reason}", f"change {key}")


def try_to_bind(listener: Listener) -> OSError | None:
    """Bind as the daemon would, without listening; nobody is kept from the port by it."""
    try:
        found = socket.getaddrinfo(
            listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        return error
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            with socket.socket(family, kind, protocol) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                link.bind(address)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                continue
            return error
    return None
