"""SIGHUP to the real daemon: listeners, access and the microphone change while streams go on."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import soundfile

from agent.types import SAMPLE_RATE
from tests.end_to_end.daemon import Daemon, free_port
from tests.sound import FifoMicrophone

CLIP = "tests/data/clips/zh-1.wav"
WAIT_S = 60.0
ELSEWHERE = {"X-Forwarded-For": "192.168.1.9"}
"""What a proxy on this machine hands on is not from this machine: it needs the token."""


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def answers(url: str) -> int:
    """The status; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=ELSEWHERE)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


async def test_listeners_and_rules_change_under_a_stream_that_gets_all_its_text(
    root: Path, tmp_path: Path
) -> None:
    audio = soundfile.read(root / CLIP, dtype="int16")[0].tobytes()
    first, second = free_port(), free_port()

    def listening(*ports: int, **more: Any) -> dict[str, Any]:
        return {"listen": [{"port": 0}, *({"port": port} for port in ports)], **more}

    (tmp_path / "config.yaml").write_text(json.dumps(listening(first)))
    with Daemon(tmp_path, listeners=2) as daemon:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(daemon.url) as stays,
            http.ws_connect(f"http://127.0.0.1:{first}/") as goes,
        ):
            for stream in (stays, goes):
                await stream.send_json({"mode": "2pass", "wav_name": "x", "is_speaking": True})
                await stream.send_bytes(audio[: len(audio) // 2])
            until(lambda: daemon.get("/api/v1/status")[1]["sessions"]["open"] == 2, "two streams")

            assert daemon.reload(listening(second, auth="open")) == "as its sources say"
            assert answers(f"http://127.0.0.1:{second}/api/v1/status") == 200
            assert answers(f"http://127.0.0.1:{first}/livez") == 0

            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
                said = daemon.reload(listening(second, port, auth="token"))
            assert f"listen.2.port: {port} is taken by another program" in said
            assert answers(f"http://127.0.0.1:{second}/api/v1/status") == 200, "as it was"

            said = daemon.reload(listening(second, events={"history": 99}))
            assert said == "needs a restart: events.history"
            assert answers(f"http://127.0.0.1:{second}/api/v1/status") == 401

            texts = []
            for stream in (stays, goes):
                await stream.send_bytes(audio[len(audio) // 2 :])
                await stream.send_json({"is_speaking": False})
                message: dict[str, Any] = {"is_final": False}
                while not message["is_final"]:
                    message = await stream.receive_json(timeout=WAIT_S)
                    if message["mode"] == "2pass-offline" and message["text"]:
                        texts.append(message["text"])
            assert len(texts) == 2
            assert texts[0] == texts[1]
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()


def test_the_microphone_is_turned_on_by_reload_and_by_hand_and_stays_on_over_a_restart(
    tmp_path: Path,
) -> None:
    fifo = FifoMicrophone(tmp_path)
    quiet = np.zeros(SAMPLE_RATE // 5, np.int16)
    off: dict[str, Any] = {"microphone": {"device": fifo.name, "stall_ms": 30_000}}
    on = {"microphone": {**off["microphone"], "enabled": True}}
    (tmp_path / "config.yaml").write_text(json.dumps(off))

    def state(daemon: Daemon) -> str:
        return str(daemon.get("/api/v1/microphone")[1]["state"])

    def hears(daemon: Daemon) -> bool:
        fifo.play(quiet)
        return state(daemon) == "running"

    with Daemon(tmp_path, ready=False, environ=fifo.environ) as daemon:
        assert state(daemon) == "off"
        daemon.reload(on)
        until(lambda: hears(daemon), "it listens")
        daemon.reload(off)
        assert state(daemon) == "off"
        until(lambda: not captures(daemon), "the capture has ended")
        switch(daemon, True)
        until(lambda: hears(daemon), "it listens again")
        assert daemon.stop() == 0
    with Daemon(tmp_path, ready=False, environ=fifo.environ) as daemon:
        until(lambda: hears(daemon), "it listens after a restart")
        switch(daemon, False)
        assert state(daemon) == "off"
        until(lambda: not captures(daemon), "the capture has ended")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()
    fifo.close()


def switch(daemon: Daemon, on: bool) -> None:
    """What the page's button does."""
    body = json.dumps({"enabled": on}).encode()
    url = daemon.url + "/api/v1/microphone"
    with urllib.request.urlopen(urllib.request.Request(url, body, method="POST")) as answer:
        assert json.load(answer)["enabled"] is on


def captures(daemon: Daemon) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(daemon.pid).children():
        try:
            if "agent.audio.capture_process" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue  # it has ended meanwhile
    return found
