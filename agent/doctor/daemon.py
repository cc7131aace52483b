"""Whether an agent runs on this box: asked over its ports and its unix socket, in plain HTTP."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config, Listener

ASK_LIMIT_S = 3.0
"""For one question with its answer, whatever the other side does."""
_MAX_ANSWER = 256 * 1024
_LIVE = ("live", "not live")
"""How an agent's /livez begins."""
SOCKET_NAME = "agent.sock"


@dataclass(frozen=True)
class RunningAgent:
    """An agent that answered."""

    version: str = ""
    """Empty when it would not tell without a token."""
    process_mb: int = 0


Connect = Callable[[float], socket.socket]
"""A connected socket, within that many seconds. Raises OSError."""
Ask = Callable[[Listener], RunningAgent | None]
"""The agent behind a listener of this box, if it is one."""


def find_daemon(config: Config, ask: Ask) -> RunningAgent | None:
    """The agent of this configuration, if it runs."""
    found = ask_agent(_by_path(config.sockets_dir / SOCKET_NAME))
    if found is not None:
        return found
    for listener in config.listen:
        if listener.port:
            found = ask(listener)
            if found is not None:
                return found
    return None


def ask_port(listener: Listener, limit_s: float = ASK_LIMIT_S) -> RunningAgent | None:
    """The `Ask` of a real box."""
    return ask_agent(_by_port(listener), limit_s)


def ask_agent(connect: Connect, limit_s: float = ASK_LIMIT_S) -> RunningAgent | None:
    """The agent behind a socket; None when there is none or it is another program."""
    answer = _get(connect, "/livez", limit_s)
    if answer is None or not answer[1].decode("utf-8", "replace").startswith(_LIVE):
        return None
    answer = _get(connect, "/api/v1/status", limit_s)
    if answer is None or answer[0] != 200:
        return RunningAgent()
    try:
        fields = json.loads(answer[1])
        return RunningAgent(str(fields["version"]), int(fields["hardware"]["process_mb"]))
    except (ValueError, KeyError, TypeError):
        return RunningAgent()


def _by_port(listener: Listener) -> Connect:
    """Connects to a listener of this box."""
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(listener.host, listener.host)

    def connect(timeout_s: float) -> socket.socket:
        plain = socket.create_connection((host, listener.port), timeout_s)
        if not listener.tls:
            return plain
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        try:
            return trust.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    return connect


def _by_path(path: Path) -> Connect:
    def connect(timeout_s: float) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.settimeout(timeout_s)
            link.connect(str(path))
        except BaseException:
            link.close()
            raise
        return link

    return connect


def _get(connect: Connect, path: str, limit_s: float) -> tuple[int, bytes] | None:
    """Status and body of a GET; None when nothing that speaks HTTP answers in time.

    HTTP 1.0: the answer comes whole, and its end is the end of the connection.
    """
    deadline = time.monotonic() + limit_s
    data = bytearray()
    try:
        with connect(limit_s) as link:
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            while len(data) < _MAX_ANSWER and (left := deadline - time.monotonic()) > 0:
                link.settimeout(left)
                block = link.recv(_MAX_ANSWER)
                if not block:
                    break
                data += block
    except (OSError, ValueError):  # ssl's errors are OSErrors; a bad name is a ValueError
        return None
    head, blank, body = bytes(data).partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if not blank or not head.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        return None
    return int(words[1]), body
