"""The real daemon as a child process, on a port that the system chose."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

START_S = 60
BUSY_MACHINE = ("stream.max_load=10", "stream.late_ms=60000", "stream.final_late_ms=60000")
"""A machine that runs tests beside each other is late now and then; no stream is refused for it."""


def free_port() -> int:
    """A TCP port of loopback that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Daemon:
    """`funasr-agent serve` with its own state folder; ready when the `with` block begins."""

    def __init__(
        self,
        state_dir: Path,
        *settings: str,
        ready: bool = True,
        listeners: int = 1,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` is added to the environment."""
        self._state_dir = state_dir
        self._settings = settings
        self._wait_ready = ready
        self._listeners = listeners
        self._environ = {**os.environ, **(environ or {})}
        self._log = state_dir / "daemon.log"
        self.addresses: list[str] = []

    @property
    def url(self) -> str:
        """Base address of the first listener."""
        return self.addresses[0].rstrip("/")

    @property
    def state_dir(self) -> Path:
        return self._state_dir

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Daemon:
        command = [sys.executable, "-m", "agent", "serve"]
        for setting in (
            "listen.0.port=0",
            f"state_dir={self._state_dir}",
            "logging.format=text",
            *BUSY_MACHINE,
            *self._settings,
        ):
            command += ["--set", setting]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._state_dir,
                env=self._environ,
            )
        try:
            self._await_listeners()
            if self._wait_ready:
                self._await_ready()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def reload(self, settings: Mapping[str, Any]) -> str:
        """Write them as its config.yaml and reload; what /health says of the configuration then."""
        before = self._reloads()
        (self._state_dir / "config.yaml").write_text(json.dumps(settings))
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_S
        while self._reloads() == before:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        checks = self.get("/health")[1]["checks"]
        return str(next(c["reason"] for c in checks if c["name"] == "configuration"))

    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body, JSON where it is JSON."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode(errors="replace")

    def _reloads(self) -> int:
        log = self.log()
        return log.count("configuration reloaded") + log.count("the configuration in force stays")

    def _await_listeners(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(rb"open (https?://\S+)", line)
            if found:
                self.addresses.append(found[1].decode())
            if len(self.addresses) == self._listeners:
                return
        raise AssertionError(f"the daemon ended before it listened:\n{self.log()}")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {START_S} s:\n{self.log()}")
