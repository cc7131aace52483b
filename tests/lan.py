"""Another host on the LAN: a network namespace behind a cable of its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

_NUMBERS = itertools.count()
_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
"""What a browser sends when a person opens a page."""


@dataclass(frozen=True)
class Ask:
    """One request."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


def socket_ask(url: str, **headers: str) -> Ask:
    """The beginning of a WebSocket; 101 when it is let in."""
    return Ask(url, headers={**_UPGRADE, **headers})


class OtherHost:
    """`with OtherHost() as host`: asks from there; `host.box` is this machine's address there."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self._name = f"agent-{os.getpid()}-{number}"
        self._near, self._far = f"ag{os.getpid() % 10**7}n{number}", "lan0"
        subnet = f"10.{200 + number % 50}.{os.getpid() % 250}"
        self.box, self.address = f"{subnet}.1", f"{subnet}.2"

    @staticmethod
    def missing() -> str | None:
        """Why there can be none here."""
        if os.geteuid() != 0:
            return "a network namespace takes root"
        if shutil.which("ip") is None:
            return "there is no ip (apt install iproute2)"
        probe = f"agent-probe-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
        if made.returncode:
            return f"this machine makes no network namespaces: {made.stderr.strip()}"
        subprocess.run(["ip", "netns", "del", probe], check=True)
        return None

    def __enter__(self) -> OtherHost:
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", self._far, "netns", self._name)
            _ip("addr", "add", f"{self.box}/24", "dev", self._near)
            _ip("link", "set", self._near, "up")
            for command in (
                ("addr", "add", f"{self.address}/24", "dev", self._far),
                ("link", "set", self._far, "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", self._name, *command)
        except BaseException:
            _ip("netns", "del", self._name)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ip("netns", "del", self._name)

    def command(self, *command: str) -> list[str]:
        """The command line that runs there."""
        return ["ip", "netns", "exec", self._name, *command]

    def run(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """What a command says that runs there."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def ask(self, asks: Sequence[Ask], ca: Path | None = None) -> list[Answer]:
        """The answers to requests, none of which follows a redirect. `ca`: trust only this."""
        job = {"ca": str(ca) if ca else None, "asks": [vars(ask) for ask in asks]}
        done = subprocess.run(
            self.command(sys.executable, str(Path(__file__).with_name("lan_client.py"))),
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return [Answer(**answer) for answer in answers]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
