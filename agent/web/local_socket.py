"""The unix socket that the commands of this box use."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from aiohttp import web

from agent.config import Config

SOCKET_NAME = "agent.sock"
"""In the folder `run_dir`."""
_MAX_SOCKET_PATH = 107
"""Bytes that the system takes for the path of a socket."""
_PROBE_S = 1.0

_log = logging.getLogger(__name__)


async def open_local_socket(runner: web.AppRunner, config: Config) -> Path | None:
    """Open it; only its owner may connect.

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
