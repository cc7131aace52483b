"""Where the log goes and in which form; every line of a session names it."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config import Logging
from agent.log_context import SESSION
from agent.ops.logs import is_journal, set_up_logging
from agent.pipeline.lanes import Lane

log = logging.getLogger("agent.test")


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(tmp_path: Path, form: str, say: Any, *, journal: bool = False) -> list[str]:
    """The lines that `say` logs."""
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if journal else {}
        set_up_logging(Logging(format=form), stream, environ)
        say()
    return path.read_text(encoding="utf-8").splitlines()


def test_auto_is_json_in_a_file_and_text_in_the_journal(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, "auto", lambda: log.info("hello"))
    assert json.loads(line)["message"] == "hello"
    lines = logged(tmp_path, "auto", lambda: log.info("hello"), journal=True)
    assert lines == ["<6>agent.test: hello"]


def test_the_journal_gets_the_priority_of_every_line_of_a_traceback(tmp_path: Path) -> None:
    def fail() -> None:
        try:
            raise ValueError("no")
        except ValueError:
            log.exception("it failed")

    lines = logged(tmp_path, "text", fail, journal=True)
    assert lines[0] == "<3>agent.test: it failed"
    assert lines[-1] == "<3>ValueError: no"
    assert all(line.startswith("<3>") for line in lines)


def test_json_in_the_journal_is_one_line_behind_its_priority(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, "ecs", lambda: log.warning("careful"), journal=True)
    assert line.startswith("<4>{")
    assert json.loads(line[3:])["log.level"] == "warning"


def test_another_file_than_the_journals_is_not_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as stream:
        assert not is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def in_session(session: str) -> None:
    def say() -> None:
        SESSION.set(session)
        log.info("hello")

    contextvars.copy_context().run(say)


def test_a_line_of_a_session_names_it_as_a_field_and_in_text(tmp_path: Path) -> None:
    (line,) = logged(tmp_path, "ecs", lambda: in_session("abc"))
    assert json.loads(line)["session_id"] == "abc"
    (line,) = logged(tmp_path, "text", lambda: in_session("abc"))
    assert line.endswith("agent.test: hello (session abc)")


def test_a_line_of_no_session_names_none(tmp_path: Path) -> None:
    in_session("abc")
    (line,) = logged(tmp_path, "ecs", lambda: log.info("hello"))
    assert "session_id" not in json.loads(line)


async def test_a_job_in_a_lane_works_for_the_session_that_brought_it() -> None:
    lane = Lane("online", 4)
    lane.start()

    async def session(name: str) -> tuple[str, bool]:
        SESSION.set(name)
        here = threading.get_ident()
        return await lane.run(lambda: (SESSION.get(), threading.get_ident() != here))

    found = await asyncio.gather(session("a"), session("b"))
    assert found == [("a", True), ("b", True)]
    await lane.close(5)
