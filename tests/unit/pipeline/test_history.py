"""The history: found, deleted for good, and never in the way of transcription."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Config
from agent.config import History as HistorySettings
from agent.errors import HistoryOff, NotReady
from agent.pipeline.history import WAITING_MOST, History
from agent.pipeline.history_files import aside, files
from agent.pipeline.history_store import HistoryStore, KeptFinal, KeptSession, Wanted
from agent.types import SpokenCommand, Transcript

SESSION = KeptSession("s1", "page", "", "2pass", 1000.0)


def said(text: str, segment: int = 0, session: str = "s1") -> Transcript:
    span = (segment * 1000, segment * 1000 + 900)
    return Transcript(session, segment, text, True, *span, tuple(text), language="zh")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def texts(history: History, **wanted: object) -> list[str]:
    found = await history.search(Wanted(**wanted))  # type: ignore[arg-type]
    return [kept.final.text for kept in found]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition never came true")


def started(folder: Path, **settings: object) -> History:
    history = History(folder / "t.db", HistorySettings(**settings))  # type: ignore[arg-type]
    history.start()
    return history


async def test_a_command_comes_back_with_its_slots_and_is_found_by_name(tmp_path: Path) -> None:
    history = started(tmp_path)
    command = SpokenCommand("light_on", {"room": "客厅", "number": 2}, "打开{room}的灯", 1)
    final = replace(said("打开客厅得灯"), command=command)
    await history.keep(SESSION, final)
    await history.keep(SESSION, said("打开客厅的灯吗", 1))
    (kept,) = await history.search(Wanted(command="light_on"))
    assert kept.final == final
    assert await texts(history, command="light_off") == []
    assert len(await texts(history)) == 2
    await history.close()


async def test_a_final_comes_back_as_it_was_said(tmp_path: Path) -> None:
    history = started(tmp_path)
    final = Transcript("s1", 3, "三十二块", True, 10, 900, ("三", "十"), ((10, 20), (20, 30)), "zh")
    await history.keep(SESSION, final)
    (kept,) = await history.search(Wanted())
    assert (kept.session, kept.final) == (SESSION, final)
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600
    await history.close()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("打开客厅", ["打开客厅的灯"]),
        ("灯", ["关灯", "打开客厅的灯"]),
        ("客厅", ["打开客厅的灯"]),
        ("LIGHT", ["turn on the light"]),
        ("light turn", ["turn on the light"]),
        ("100%", ['100% "sure"']),
        ("0%", ['100% "sure"']),
        ('"sure"', ['100% "sure"']),
        ("_", []),
        ("OR NOT", []),
    ],
)
@pytest.mark.parametrize("indexed", [True, False])
async def test_search_finds_chinese_and_english(
    tmp_path: Path, words: str, found: list[str], indexed: bool
) -> None:
    history = started(tmp_path)
    for i, text in enumerate(["打开客厅的灯", "turn on the light", '100% "sure"', "关灯"]):
        await history.keep(SESSION, said(text, i))
    if not indexed:
        history._indexed = False
    assert await texts(history, words=words) == found
    await history.close()


async def test_filters_and_pages(tmp_path: Path) -> None:
    history = started(tmp_path)
    for i in range(5):
        await history.keep(SESSION, said(f"text {i}", i))
    other = KeptSession("s2", "file", "a.wav", "offline", 2000.0)
    await history.keep(other, said("other", session="s2"))
    assert await texts(history, source="file") == ["other"]
    assert await texts(history, session="s1", limit=2) == ["text 4", "text 3"]
    last = (await history.search(Wanted(session="s1", limit=2)))[-1].id
    assert await texts(history, before=last) == ["text 2", "text 1", "text 0"]
    assert await texts(history, until=10.0) == []
    await history.close()


async def test_deleted_words_are_in_no_file_any_more(tmp_path: Path) -> None:
    history = started(tmp_path)
    for i in range(300):
        await history.keep(SESSION, said(f"ordinary talk number {i}", i))
    secret = KeptSession("s2", "page", "", "2pass", 1.0)
    await history.keep(secret, said("xylophone quartz", session="s2"))
    assert any(b"xylophone" in path.read_bytes() for path in files(tmp_path / "t.db"))
    assert await history.delete(Wanted(session="s2")) == 1
    for path in files(tmp_path / "t.db"):
        for piece in (b"xylophone", b"xyl", b"yloph", b"rtz"):
            assert piece not in path.read_bytes(), path
    assert await texts(history, words="xylophone") == []
    assert len(await texts(history, words="ordinary", limit=1000)) == 300
    assert await history.delete(Wanted(), everything=True) == 300
    assert await texts(history) == []
    await history.close()
    assert not any(b"ordinary" in path.read_bytes() for path in files(tmp_path / "t.db"))


async def test_history_off_writes_nothing_and_removes_an_older_one(tmp_path: Path) -> None:
    history = started(tmp_path)
    await history.keep(SESSION, said("old words"))
    await history.close()
    off = started(tmp_path, enabled=False)
    before = (tmp_path / "t.db").read_bytes()
    await off.keep(SESSION, said("new words", 1))
    assert (tmp_path / "t.db").read_bytes() == before
    with pytest.raises(HistoryOff):
        await off.search(Wanted())
    assert await off.delete(Wanted(), everything=True) == 1
    assert files(tmp_path / "t.db") == []
    await off.close()


@pytest.mark.parametrize("short", [False, "off"])
def test_history_off_for_short(short: object) -> None:
    assert Config.model_validate({"history": short}).history.enabled is False


async def test_old_finals_go(tmp_path: Path) -> None:
    clock = Clock()
    history = History(tmp_path / "t.db", HistorySettings(keep_days=1), clock)
    history.start()
    await history.keep(SESSION, said("old", 0))
    clock.now += 86_401
    await history.keep(SESSION, said("new", 1))
    await history.delete(Wanted(id=10**9))  # returns behind the tidying
    assert await texts(history) == ["new"]
    await history.close()


async def test_the_oldest_go_when_there_is_too_much(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "t.db")
    store.add([KeptFinal(SESSION, said(f"{i} " + "words " * 600, i), 1.0) for i in range(700)])
    store.close()
    history = started(tmp_path, max_mb=1, keep_days=0)
    await history.keep(SESSION, said("the newest", 9999))
    await history.delete(Wanted(id=10**9))
    left = await texts(history, limit=10_000)
    assert left[0] == "the newest"
    assert 1 < len(left) < 700
    await history.delete(Wanted(id=10**9))
    assert sum(path.stat().st_size for path in files(tmp_path / "t.db")) < 3 << 20
    await history.close()


async def test_a_damaged_database_is_set_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"no database at all" * 1000)
    history = started(tmp_path)
    await history.keep(SESSION, said("goes on"))
    assert await texts(history) == ["goes on"]
    assert "was damaged" in history.trouble()
    assert len(aside(tmp_path / "t.db")) == 1
    await history.delete(Wanted(), everything=True)
    assert aside(tmp_path / "t.db") == []
    assert history.trouble() == ""
    await history.close()


class FullDisk(HistoryStore):
    """A disk that takes nothing until there is room."""

    room = False

    def add(self, finals: object) -> None:
        if not FullDisk.room:
            raise sqlite3.OperationalError("database or disk is full")
        super().add(finals)  # type: ignore[arg-type]


async def test_a_full_disk_stops_nothing_and_finals_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.history.RETRY_S", 0.05)
    monkeypatch.setattr(FullDisk, "room", False)
    history = History(tmp_path / "t.db", HistorySettings(), open_store=FullDisk)
    history.start()
    for i in range(WAITING_MOST + 3):
        await asyncio.wait_for(history.keep(SESSION, said(f"final {i}", i)), 5)
    assert "disk is full" in history.trouble()
    assert "3 finals are missing" in history.trouble()
    with pytest.raises(NotReady):
        await history.delete(Wanted(session="s1"))
    FullDisk.room = True
    await until(lambda: "full" not in history.trouble())
    assert len(await texts(history, limit=5000)) == WAITING_MOST
    await history.close()
