"""Hooks of spoken commands: real programs and a real server; bounded, and never in the way."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from agent.config_commands import CommandHook as HookSettings
from agent.ops.command_hook import CommandHook
from agent.ops.hook_webhook import LocalResolver
from agent.protocols.events import describe
from agent.types import CommandHeard, SpokenCommand

LIMIT_S = 20.0


def heard(name: str = "light_on", segment: int = 0) -> CommandHeard:
    command = SpokenCommand(name, {"room": "客厅", "number": 25}, "打开{room}的灯", 1)
    return CommandHeard("s1", segment, 100, 900, "打开客厅得灯", command)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(LIMIT_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition never came true")


class Desk:
    """A hook with what it counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[tuple[str, str]] = Counter()
        self.now = 100.0
        self.hook = CommandHook(
            HookSettings(), folder, describe, self.count, lambda: self.now, retry_s=0.01
        )

    def count(self, kind: str, result: str) -> None:
        self.counts[kind, result] += 1

    def use(self, **settings: Any) -> None:
        self.hook.configure(HookSettings.model_validate(settings))

    def program(self, script: str, *arguments: str, **settings: Any) -> None:
        """Use a shell script as the program."""
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.use(exec=[str(path), *arguments], **settings)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    async def counted(self, kind: str, result: str, number: int = 1) -> None:
        await until(lambda: self.counts[kind, result] >= number)
        assert self.counts[kind, result] == number


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    yield made
    await made.hook.close(0.1)


class Receiver:
    """A webhook that answers what it is told to, the last one again and again."""

    def __init__(self) -> None:
        self.answers = [200]
        self.got: list[Any] = []
        app = web.Application()
        app.router.add_post("/heard", self.take)
        self.server = TestServer(app)

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, headers={"Location": "/heard"})

    @property
    def url(self) -> str:
        return str(self.server.make_url("/heard"))


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_a_program_gets_its_arguments_as_they_are_and_json_on_its_input(desk: Desk) -> None:
    desk.program('printf "%s\\n" "$@" > arguments; cat > input', "$(touch broken)", "a b")
    desk.hook.fire(heard(), "microphone")
    await desk.counted("exec", "ok")
    assert desk.lines("arguments") == ["$(touch broken)", "a b"]
    assert not (desk.folder / "broken").exists()
    told = json.loads("\n".join(desk.lines("input")))
    assert told.pop("time") > 1e9
    assert told == {
        "type": "command",
        "name": "light_on",
        "slots": {"room": "客厅", "number": 25},
        "text": "打开客厅得灯",
        "phrase": "打开{room}的灯",
        "edits": 1,
        "session_id": "s1",
        "segment_id": 0,
        "start_ms": 100,
        "end_ms": 900,
        "source": "microphone",
    }


async def test_nothing_is_set_off_until_a_hook_is_configured(desk: Desk) -> None:
    desk.hook.fire(heard(), "microphone")
    assert desk.hook.status() == {"exec": None, "webhook": None}
    assert desk.counts == {}


async def test_commands_of_files_and_of_clients_without_token_set_nothing_off(desk: Desk) -> None:
    desk.program("cat >> input")
    for source in ("file", "funasr", "page"):
        desk.hook.fire(heard(source), source)
    await desk.counted("exec", "ok")
    assert [json.loads(line)["name"] for line in desk.lines("input")] == ["page"]
    desk.program("cat >> input", sources=["funasr"])
    desk.hook.fire(heard("funasr"), "funasr")
    await desk.counted("exec", "ok", 2)


async def test_commands_keep_their_order_one_at_a_time(desk: Desk) -> None:
    desk.program("mkdir busy || echo two >> wrong; cat >> input; sleep 0.05; rmdir busy")
    for i in range(6):
        desk.hook.fire(heard(f"c{i}"), "page")
    await desk.counted("exec", "ok", 6)
    names = [json.loads(line)["name"] for line in desk.lines("input")]
    assert names == [f"c{i}" for i in range(6)]
    assert desk.lines("wrong") == []


@pytest.mark.parametrize(
    ("script", "said"),
    [("exit 3", "ended with status 3"), ("kill -9 $$", "ended with signal 9")],
)
async def test_a_failure_is_told_until_it_goes_well_again(
    desk: Desk, caplog: pytest.LogCaptureFixture, script: str, said: str
) -> None:
    desk.program(script)
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "failed")
    assert said in desk.hook.trouble()
    assert desk.hook.status()["exec"]["failed"] == 1
    assert "exec of the command light_on failed" in caplog.text
    assert "客厅" not in caplog.text
    desk.program("exit 0")  # it reads nothing of what it is told
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "ok")
    assert desk.hook.trouble() == ""


async def test_a_program_that_is_not_there_is_told(desk: Desk) -> None:
    desk.use(exec=[str(desk.folder / "nothing")])
    assert "nothing is no program that can be run" in desk.hook.trouble()
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "failed")
    assert "nothing can't be started: No such file" in desk.hook.trouble()


async def test_a_program_that_takes_too_long_is_ended(desk: Desk) -> None:
    desk.program("exec sleep 600", timeout_s=0.3)
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "failed")
    assert "was ended: it took longer than 0.3 s" in desk.hook.trouble()


async def test_a_program_is_ended_with_its_children_even_when_they_resist(desk: Desk) -> None:
    desk.program("trap '' TERM; sleep 600 & echo $! > new; mv new child; wait; wait", timeout_s=600)
    desk.hook.fire(heard(), "page")
    await until(lambda: bool(desk.lines("child")))
    child = int(desk.lines("child")[0])
    assert is_running(child)
    await desk.hook.close(0)
    await until(lambda: not is_running(child))


async def test_a_program_may_leave_something_running(desk: Desk) -> None:
    desk.program("sleep 600 & echo $! > child; exit 0", timeout_s=60)
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "ok")
    os.kill(int(desk.lines("child")[0]), 9)


async def test_what_a_program_complains_of_is_in_the_log_at_debug(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    desk.program("yes complaint | head -c 100000 >&2; echo last words >&2")
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "ok")
    (said,) = (record for record in caplog.records if "last words" in record.getMessage())
    assert said.levelname == "DEBUG"
    assert len(said.getMessage()) < 2100


async def test_more_than_may_wait_are_dropped_and_told(desk: Desk) -> None:
    desk.program("mkfifo gate; cat gate; cat >> input", queue=2, timeout_s=60)
    for i in range(5):
        desk.hook.fire(heard(f"c{i}"), "page")
    status = desk.hook.status()["exec"]
    assert (status["running"], status["waiting"], status["dropped"]) == (1, 2, 2)
    assert "c4 was dropped: too many wait" in desk.hook.trouble()
    await desk.hook.close(0.1)
    assert desk.hook.status()["exec"]["dropped"] == 4
    desk.hook.fire(heard(), "page")
    assert desk.hook.status()["exec"]["dropped"] == 5


async def test_a_command_that_waited_too_long_is_not_carried_out(desk: Desk) -> None:
    desk.program("test -p gate || mkfifo gate; cat gate > /dev/null; cat >> input", expire_s=30)
    desk.hook.fire(heard("first"), "page")
    desk.hook.fire(heard("late"), "page")
    await until(lambda: (desk.folder / "gate").exists())
    desk.now += 31
    await asyncio.to_thread((desk.folder / "gate").write_text, "go")
    await desk.counted("exec", "ok")
    await desk.counted("exec", "dropped")
    assert [json.loads(line)["name"] for line in desk.lines("input")] == ["first"]


async def test_the_service_managers_variables_are_not_handed_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HOOK_TEST", "1")
    desk.program("env > environment")
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "ok")
    names = {line.partition("=")[0] for line in desk.lines("environment")}
    assert "HOOK_TEST" in names
    assert names & {"NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"} == set()


async def test_a_webhook_gets_the_same_json(desk: Desk, receiver: Receiver) -> None:
    desk.use(webhook=receiver.url)
    desk.hook.fire(heard(), "page")
    await desk.counted("webhook", "ok")
    (told,) = receiver.got
    assert (told["name"], told["slots"]["room"], told["source"]) == ("light_on", "客厅", "page")


async def test_a_webhook_that_fails_is_tried_again(desk: Desk, receiver: Receiver) -> None:
    receiver.answers = [503, 429, 204]
    desk.use(webhook=receiver.url)
    desk.hook.fire(heard(), "page")
    await desk.counted("webhook", "ok")
    assert len(receiver.got) == 3


@pytest.mark.parametrize(("status", "times"), [(500, 3), (404, 1), (302, 1)])
async def test_tries_have_an_end_and_a_refusal_is_final(
    desk: Desk, receiver: Receiver, status: int, times: int
) -> None:
    receiver.answers = [status]
    desk.use(webhook=receiver.url, retries=2)
    desk.hook.fire(heard(), "page")
    await desk.counted("webhook", "failed")
    assert len(receiver.got) == times
    assert desk.hook.trouble() == f"webhook: 127.0.0.1 answered {status}"


async def test_a_webhook_that_nobody_serves_is_told_without_its_address(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        desk.use(webhook=f"http://127.0.0.1:{port}/secret", retries=1)
        desk.hook.fire(heard(), "page")
        await desk.counted("webhook", "failed")
    assert "127.0.0.1 can't be reached" in desk.hook.trouble()
    assert "secret" not in desk.hook.trouble()


async def test_both_hooks_may_be_set_and_go_on_without_each_other(
    desk: Desk, receiver: Receiver
) -> None:
    desk.program("exit 1", webhook=receiver.url)
    desk.hook.fire(heard(), "page")
    await desk.counted("exec", "failed")
    await desk.counted("webhook", "ok")


class Addresses(AbstractResolver):
    """Finds the same addresses for every name."""

    def __init__(self, *found: str) -> None:
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        fields = {"hostname": host, "port": port, "family": family, "proto": 0, "flags": 0}
        return [ResolveResult(host=address, **fields) for address in self._found]  # type: ignore[typeddict-item]

    async def close(self) -> None:
        """Nothing to end."""


async def test_names_lead_to_the_local_network_only() -> None:
    mixed = LocalResolver(Addresses("1.2.3.4", "192.168.1.7", "::1", "2001:db8::1"))
    assert [one["host"] for one in await mixed.resolve("box")] == ["192.168.1.7", "::1"]
    with pytest.raises(OSError, match="box is at no address of a local network"):
        await LocalResolver(Addresses("1.2.3.4")).resolve("box")


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
