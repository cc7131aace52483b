"""Speaks to the daemon of this box through its unix socket."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, BinaryIO

from agent.config import Config
from agent.errors import AgentError, ModelError, NotReady, StoreBusy

SOCKET_NAME = "agent.sock"
_MAX_SOCKET_PATH = 107
_CONNECT_S = 5.0
_BLOCK = 1 << 20
_RETRY = (503, 429)


class DaemonError(ModelError):
    """The daemon refused what was asked; code, level and message are its own."""

    def __init__(self, code: str, message: str, level: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.level = level


class Daemon:
    """The running daemon."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, path: str) -> Any:
        """JSON of a GET. Raises DaemonError, NotReady."""
        return self._ask("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        """JSON of a POST."""
        return self._ask("POST", path, json.dumps(body or {}).encode())

    def delete(self, path: str) -> Any:
        """JSON of a DELETE."""
        return self._ask("DELETE", path)

    def upload(self, path: str, stream: BinaryIO, size: int | None) -> Any:
        """JSON of a POST whose body is read from `stream`; `size` in bytes where it is known."""
        headers = {"Content-Type": "application/x-tar"}
        if size is not None:
            headers["Content-Length"] = str(size)
        return self._ask("POST", path, stream, headers)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        connection = _Connection(self._path)
        try:
            # When it answers before it has read everything, the answer says why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(
                f"{self._path}: the agent stopped answering ({error}); its log says why"
            ) from None
        finally:
            connection.close()
        return _told(answer.status, data)


def running_daemon(config: Config) -> Daemon | None:
    """The daemon that uses this configuration's run_dir; None when none runs.

    Raises AgentError when its socket belongs to somebody else.
    """
    path = config.sockets_dir / SOCKET_NAME
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        return None  # the daemon could not open it either
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(os.fspath(path))
        except PermissionError:
            raise AgentError(
                f"{path}: an agent runs as another user; run this as that user or as root"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                return None
            raise NotReady(f"{path}: the agent does not answer ({error})") from None
    return Daemon(path)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", blocksize=_BLOCK)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.fspath(self._path))


def _told(status: int, data: bytes) -> Any:
    try:
        answer = json.loads(data)
    except ValueError:
        raise DaemonError("bad_answer", f"the agent answered {status} without JSON") from None
    if status < 400:
        return answer
    error = answer.get("error") if isinstance(answer, dict) else None
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message", f"the agent answered {status}"))
    code = str(error.get("code", "error"))
    if status in _RETRY:
        raise NotReady(message)
    if code == StoreBusy.code:
        raise StoreBusy(message)
    raise DaemonError(code, message, str(error.get("level", "")))
