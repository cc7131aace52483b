"""Opens the listeners of the configuration; each serves the whole application."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from agent.config import Config, Listener
from agent.errors import ConfigError, ConfigProblem
from agent.web.certificates import CertificateKeeper

SOCKET_NAME = "agent.sock"
"""In the folder `run_dir`."""
_MAX_SOCKET_PATH = 107
"""Bytes that the system takes for the path of a socket."""
_PROBE_S = 1.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}

_log = logging.getLogger(__name__)

_REASONS = {
    errno.EADDRINUSE: "{port} is taken by another program; stop it, or choose another port",
    errno.EACCES: "this user may not open port {port}; choose one from 1024 up",
    errno.EADDRNOTAVAIL: "this machine has no address {host}",
}


async def open_listeners(
    runner: web.AppRunner,
    config: Config,
    inherited: Sequence[socket.socket] = (),
    certificates: CertificateKeeper | None = None,
) -> list[str]:
    """Open all; their addresses. Raises ConfigError naming the keys that change what failed.

    `certificates`: those of the listeners with TLS; None: read and never renewed. Where an
    inherited listening socket has a listener's address, it is used.
    """
    problems: list[ConfigProblem] = []
    addresses: list[str] = []
    if certificates is None and any(item.tls for item in config.listen):
        certificates = CertificateKeeper(config)
        certificates.load()
    context = certificates.context if certificates else None
    for i, listener in enumerate(config.listen):
        site = _site(runner, listener, context if listener.tls else None, inherited)
        try:
            await site.start()
        except OSError as error:
            problems.append(_problem(i, listener, error))
        else:
            addresses.append(_address(listener, site))
    if problems:
        raise ConfigError(problems)
    return addresses


def openable(address: str) -> str:
    """An address that a browser on this box can open: one that means every interface is none."""
    for everywhere, loopback in _LOOPBACK.items():
        address = address.replace(f"://{everywhere}:", f"://{loopback}:")
    return address


async def open_local_socket(runner: web.AppRunner, config: Config) -> Path | None:
    """Open the unix socket that the commands of this box use; only its owner may connect.

    None, with the reason logged, where it can't be made: everything else works without.
    """
    path = config.sockets_dir / SOCKET_NAME
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        _log.warning("%s is too long for a socket; set a shorter run_dir", path)
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _answers(path):
            _log.warning("%s is another agent's; the commands speak to that one", path)
            return None
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            os.umask(before)
    except OSError as error:
        _log.warning("%s: no socket for the commands: %s", path, error.strerror or error)
        return None
    return path


def _answers(path: Path) -> bool:
    """Whether somebody listens on the socket, as opposed to one that a dead agent left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # too busy to answer, or another user's
        return True


def _site(
    runner: web.AppRunner,
    listener: Listener,
    tls: ssl.SSLContext | None,
    inherited: Sequence[socket.socket],
) -> web.TCPSite | web.SockSite:
    for candidate in inherited:
        if candidate.family != socket.AF_UNIX and candidate.getsockname()[:2] == (
            listener.host,
            listener.port,
        ):
            return web.SockSite(runner, candidate, ssl_context=tls)
    return web.TCPSite(runner, listener.host, listener.port, ssl_context=tls)


def _problem(i: int, listener: Listener, error: OSError) -> ConfigProblem:
    reason = _REASONS.get(error.errno or 0, "can't be opened: " + (error.strerror or str(error)))
    of_host = error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror)
    key = f"listen.{i}.host" if of_host else f"listen.{i}.port"
    return ConfigProblem(key, reason.format(host=listener.host, port=listener.port))


def _address(listener: Listener, site: web.TCPSite | web.SockSite) -> str:
    server = site._server
    sockets = getattr(server, "sockets", None)
    port = sockets[0].getsockname()[1] if sockets else listener.port
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{'https' if listener.tls else 'http'}://{host}:{port}/"
