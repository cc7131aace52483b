"""The agent as a service of the box: its configuration, its state, its streams."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import soundfile

from tests.systemd.box import Box

CONFIG = "/etc/funasr-agent/config.yaml"
_WAIT_S = 120.0
BLOCK = 1920
"""Bytes of a message, as FunASR's client sends them."""


class Service:
    """The unit funasr-agent of a box."""

    def __init__(self, box: Box, port: int, low_port: int) -> None:
        self.box = box
        self.port = port
        self.low_port = low_port
        """Below 1024."""
        self.start_s = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """What the tests' configuration says."""
        return {
            "state_dir": "/var/lib/funasr-agent",
            "run_dir": "/run/funasr-agent",
            "listen": [{"port": self.port}, {"port": self.low_port}],
            # A machine that runs tests is late now and then; no stream is refused for it.
            "stream": {"max_load": 10, "late_ms": 60000, "final_late_ms": 60000},
        }

    def configure(self, **settings: Any) -> None:
        """Write the configuration; JSON is YAML as well."""
        self.box.write(CONFIG, json.dumps({**self.settings, **settings}, indent=2) + "\n")

    def start(self) -> float:
        """`systemctl start`; how long it took, seconds."""
        self.box.run("systemctl reset-failed funasr-agent", check=False)
        began = time.monotonic()
        self.box.run("systemctl start funasr-agent")
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """Of the agent, in the box."""
        return int(self.box.show("MainPID"))

    @property
    def restarts(self) -> int:
        """Restarts that systemd made by itself since the last start by hand."""
        return int(self.box.show("NRestarts"))

    def is_ready(self) -> bool:
        """Whether it runs and its canary has been decoded."""
        return self.get("/readyz")[0] == 200 and self.box.show("ActiveState") == "active"

    def get(self, path: str, port: int = 0) -> tuple[int, Any]:
        """Status and body; status 0 when nobody listens."""
        try:
            url = f"http://127.0.0.1:{port or self.port}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError:
            return 0, ""
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode(errors="replace")

    def check(self, name: str) -> dict[str, Any]:
        """A check of /health."""
        checks = self.get("/health")[1]["checks"]
        found: dict[str, Any] = next(check for check in checks if check["name"] == name)
        return found


def wait_until(true: Callable[[], object], what: str, *, limit_s: float = _WAIT_S) -> float:
    """Seconds until `true()` was so."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + limit_s, f"{what}: not within {limit_s:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


class Talk:
    """A live stream of a FunASR client that never stops to talk."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, clip: Path) -> None:
        self._socket = socket
        self._audio = soundfile.read(clip, dtype="int16")[0].tobytes()
        self.messages: list[dict[str, Any]] = []

    async def begin(self, mode: str = "2pass") -> None:
        """Say what comes."""
        await self._socket.send_json({"mode": mode, "wav_name": "talk", "is_speaking": True})

    async def say(self, seconds_between: float = 0.0) -> None:
        """The clip once."""
        for at in range(0, len(self._audio), BLOCK):
            await self._socket.send_bytes(self._audio[at : at + BLOCK])
            await asyncio.sleep(seconds_between)

    async def pause(self, ms: int) -> None:
        """Silence."""
        await self._socket.send_bytes(bytes(32 * ms))

    async def end(self) -> str:
        """Everything that was read, after the end of the audio."""
        await self._socket.send_json({"is_speaking": False})
        while not self.messages or not self.messages[-1]["is_final"]:
            self.messages.append(await self._socket.receive_json(timeout=60))
        return "".join(m["text"] for m in self.finals())

    def finals(self) -> list[dict[str, Any]]:
        """Messages of the second pass with text."""
        return [m for m in self.messages if m["mode"] != "2pass-online" and m["text"]]


async def recognise(port: int, clip: Path) -> str:
    """What a FunASR client gets for a clip."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{port}/") as socket,
    ):
        talk = Talk(socket, clip)
        await talk.begin()
        await talk.say()
        return await talk.end()
