"""Spoken commands through the real daemon with the embedded models: from a clip to the event, the
history, the metrics, a program and a webhook; and by a reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import soundfile
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.end_to_end.daemon import Daemon
from tests.end_to_end.test_daemon import funasr

CLIPS = "tests/data/clips"
LIMIT_S = 30.0
COMMANDS: list[dict[str, Any]] = [
    {"name": "time", "phrases": ["现在几点", "what time is it"]},
    {
        "name": "off",
        "phrases": ["关闭{thing}", "turn off the {thing}"],
        "slots": {"thing": {"lamp": ["灯", "light"], "fan": ["风扇", "fan"]}},
    },
]


def configured(folder: Path, **sections: Any) -> dict[str, str]:
    """Environment of a daemon with this configuration file."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(sections, allow_unicode=True), encoding="utf-8")
    return {"FUNASR_AGENT_CONFIG": str(file)}


def recorder(folder: Path) -> list[str]:
    """A program that adds each line of its input to the file `heard`."""
    path = folder / "recorder"
    path.write_text('#!/bin/sh\ncat >> "$1"\n')
    path.chmod(0o755)
    return [str(path), str(folder / "heard")]


def recorded(folder: Path) -> list[dict[str, Any]]:
    path = folder / "heard"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)


async def speak(url: str, clip: Path) -> list[dict[str, Any]]:
    """Events of a stream as the page makes one."""
    data = soundfile.read(clip, dtype="int16")[0].tobytes()
    got = []
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/api/v1/stream") as stream:
        await stream.send_json({"type": "start", "sample_rate": 16000})
        await stream.send_bytes((0).to_bytes(8, "little") + data)
        await stream.send_json({"type": "stop"})
        async for message in stream:
            got.append(message.json())
    return got


async def upload(url: str, clip: bytes) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("file", clip, filename="clip.wav")
    async with aiohttp.ClientSession() as http:
        answer = await http.post(f"{url}/v1/audio/transcriptions", data=form)
        read: dict[str, Any] = await answer.json()
        return read


def test_a_spoken_command_is_told_kept_counted_and_sets_a_program_off(
    root: Path, tmp_path: Path
) -> None:
    hook = {"exec": recorder(tmp_path)}
    environ = configured(tmp_path, commands=COMMANDS, command_hook=hook)
    with Daemon(tmp_path, "logging.format=ecs", environ=environ) as daemon:
        for clip, name, slots in (("zh-1", "time", {}), ("en-1", "off", {"thing": "lamp"})):
            events = asyncio.run(speak(daemon.url, root / CLIPS / f"{clip}.wav"))
            (at,) = (i for i, event in enumerate(events) if event["type"] == "command")
            final, heard = events[at - 1], events[at]
            assert (final["type"], final["text"]) == ("final", heard["text"])
            assert final["command"] == {"name": name, "slots": slots}
            assert (heard["name"], heard["slots"]) == (name, slots)
        assert not [e for e in asyncio.run(speak(daemon.url, other(root))) if is_command(e)]

        until(lambda: len(recorded(tmp_path)) == 2)
        assert [told["name"] for told in recorded(tmp_path)] == ["time", "off"]
        assert recorded(tmp_path)[1]["slots"] == {"thing": "lamp"}
        rows = daemon.get("/api/v1/transcripts?command=off")[1]["transcripts"]
        assert [row["command"]["slots"] for row in rows] == [{"thing": "lamp"}]
        assert len(daemon.get("/api/v1/transcripts")[1]["transcripts"]) == 3

        metrics = daemon.get("/metrics")[1]
        assert 'funasr_agent_commands_total{name="off"} 1.0' in metrics
        until(
            lambda: 'command_hooks_total{kind="exec",result="ok"} 2.0' in daemon.get("/metrics")[1]
        )
        status = daemon.get("/api/v1/status")[1]["commands"]
        assert status["names"] == ["time", "off"]
        assert status["hook"]["exec"]["ok"] == 2
        assert daemon.stop() == 0
        lines = [json.loads(line) for line in daemon.log().splitlines()]
    told = [line for line in lines if line["message"] == "command off heard"]
    assert told[0]["command"] == "off"
    assert "lamp" not in daemon.log()


def test_clients_without_a_token_and_files_are_told_of_commands_but_set_nothing_off(
    root: Path, tmp_path: Path
) -> None:
    hook = {"exec": recorder(tmp_path)}
    environ = configured(tmp_path, commands=COMMANDS, command_hook=hook)
    clip = root / CLIPS / "en-1.wav"
    with Daemon(tmp_path, environ=environ) as daemon:
        said = asyncio.run(funasr(daemon.url, clip, "2pass"))
        assert "command" not in json.dumps(said)
        read = asyncio.run(upload(daemon.url, clip.read_bytes()))
        assert [command["name"] for command in read["commands"]] == ["off"]
        rows = daemon.get("/api/v1/transcripts?command=off")[1]["transcripts"]
        assert sorted(row["session"]["source"] for row in rows) == ["file", "funasr"]
        asyncio.run(speak(daemon.url, clip))
        until(lambda: len(recorded(tmp_path)) >= 1)
        assert [told["source"] for told in recorded(tmp_path)] == ["page"]


async def test_a_webhook_on_this_network_gets_the_command(root: Path, tmp_path: Path) -> None:
    got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await got.put(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/heard", take)
    async with TestServer(app) as server:
        hook = {"webhook": str(server.make_url("/heard"))}
        environ = configured(tmp_path, commands=COMMANDS, command_hook=hook)
        daemon = await asyncio.to_thread(Daemon(tmp_path, environ=environ).__enter__)
        try:
            await speak(daemon.url, root / CLIPS / "zh-1.wav")
            told = await asyncio.wait_for(got.get(), LIMIT_S)
        finally:
            await asyncio.to_thread(daemon.stop)
    assert (told["type"], told["name"], told["source"]) == ("command", "time", "page")


def test_a_reload_changes_the_commands_and_a_mistake_is_told_with_its_line(
    root: Path, tmp_path: Path
) -> None:
    environ = configured(tmp_path, commands=COMMANDS)
    clip = root / CLIPS / "en-1.wav"

    def names() -> list[str]:
        listed: list[str] = daemon.get("/api/v1/status")[1]["commands"]["names"]
        return listed

    with Daemon(tmp_path, environ=environ) as daemon:
        renamed = [{**COMMANDS[1], "name": "dark"}]
        configured(tmp_path, commands=renamed)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: names() == ["dark"])
        (heard,) = filter(is_command, asyncio.run(speak(daemon.url, clip)))
        assert (heard["name"], heard["slots"]) == ("dark", {"thing": "lamp"})
        configured(tmp_path, commands=[*renamed, {"name": "dark", "phrases": ["x"]}])
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "is also the name of commands.0" in daemon.log())
        assert "config.yaml, line " in daemon.log()
        assert names() == ["dark"]


def other(root: Path) -> Path:
    """A clip that is none of the commands."""
    return root / CLIPS / "en-3.wav"


def is_command(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "command")
