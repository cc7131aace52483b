"""The unix socket that the commands of the box use."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from agent.config import Config
from agent.web.local_socket import open_local_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as the system wants it for sockets."""
    made = tempfile.mkdtemp(prefix="agent-")
    yield Path(made)
    shutil.rmtree(made)


@pytest.fixture
def config(folder: Path) -> Config:
    return Config.model_validate({"state_dir": folder / "state"})


async def make_runner() -> web.AppRunner:
    app = web.Application()

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    return runner


@pytest_asyncio.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    made = await make_runner()
    yield made
    await made.cleanup()


async def said(path: Path) -> str:
    connector = aiohttp.UnixConnector(str(path))
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get("http://localhost/") as answer,
    ):
        return await answer.text()


def stale(path: Path) -> None:
    """The file that a killed agent leaves."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_the_commands_are_answered_and_only_the_owner_may_connect(
    runner: web.AppRunner, config: Config
) -> None:
    path = await open_local_socket(runner, config)
    assert path == config.state_dir / "run" / "agent.sock"
    assert await said(path) == "hello"
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_uid == os.geteuid()


async def test_opening_it_leaves_the_mode_of_other_new_files_alone(
    runner: web.AppRunner, config: Config, folder: Path
) -> None:
    before = os.umask(0o022)
    try:
        await open_local_socket(runner, config)
        (folder / "later").touch()
        assert stat.S_IMODE((folder / "later").stat().st_mode) == 0o644
    finally:
        os.umask(before)


async def test_run_dir_says_where_it_lies(runner: web.AppRunner, folder: Path) -> None:
    config = Config.model_validate({"state_dir": folder / "state", "run_dir": folder / "r"})
    assert await open_local_socket(runner, config) == folder / "r" / "agent.sock"
    assert not (folder / "state").exists()


@pytest.mark.parametrize("leave", [stale, Path.touch])
async def test_what_a_dead_agent_left_is_replaced(
    runner: web.AppRunner, config: Config, leave: object
) -> None:
    path = config.sockets_dir / "agent.sock"
    path.parent.mkdir(parents=True)
    leave(path)  # type: ignore[operator]
    assert await open_local_socket(runner, config) == path
    assert await said(path) == "hello"


async def test_the_socket_of_a_living_agent_is_left_alone(
    runner: web.AppRunner, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    other = await make_runner()
    path = await open_local_socket(other, config)
    assert path is not None
    inode = path.stat().st_ino
    assert await open_local_socket(runner, config) is None
    assert "is another agent's" in caplog.text
    assert path.stat().st_ino == inode
    assert await said(path) == "hello"
    await other.cleanup()


async def test_the_socket_of_an_agent_that_is_too_busy_to_answer_is_left_alone(
    runner: web.AppRunner, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    path = config.sockets_dir / "agent.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(str(path))
            assert await open_local_socket(runner, config) is None
        finally:
            for client in waiting:
                client.close()
        assert path.exists()
    assert "is another agent's" in caplog.text


async def test_a_path_that_is_too_long_is_told_with_the_key_to_set(
    runner: web.AppRunner, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = folder / ("x" * 120)
    config = Config.model_validate({"state_dir": long})
    assert await open_local_socket(runner, config) is None
    assert "too long" in caplog.text
    assert "run_dir" in caplog.text
    assert not long.exists()


async def test_the_longest_path_that_the_system_takes_is_used(
    runner: web.AppRunner, folder: Path
) -> None:
    length = 107 - len(os.fsencode(folder / "agent.sock")) - 1
    config = Config.model_validate({"run_dir": folder / ("x" * length)})
    path = await open_local_socket(runner, config)
    assert path is not None
    assert len(os.fsencode(path)) == 107
    assert await said(path) == "hello"


@pytest.mark.parametrize("in_the_way", ["a file for its folder", "a folder in its place"])
async def test_where_it_can_not_be_made_the_agent_goes_on_without(
    runner: web.AppRunner, config: Config, in_the_way: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = config.sockets_dir / "agent.sock"
    if in_the_way == "a file for its folder":
        path.parent.parent.mkdir()
        path.parent.touch()
    else:
        path.mkdir(parents=True)
    assert await open_local_socket(runner, config) is None
    assert f"{path}: no socket for the commands" in caplog.text
