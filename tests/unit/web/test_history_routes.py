"""The history over REST."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config_commands import Command
from agent.types import StreamOptions
from agent.voice_commands.matcher import CommandMatcher
from tests.fakes import silence, tone
from tests.unit.web.conftest import Box

PATH = "/api/v1/transcripts"


async def speak(box: Box, *levels: int, name: str = "") -> str:
    """A session that says one segment a level; its id."""
    stream = await box.service.open(StreamOptions(wav_name=name), source="page")
    for level in levels:
        await stream.push(silence(2))
        await stream.push(tone(level, 4))
        await stream.push(silence(6))
    await stream.finish()
    async for _ in stream:
        pass
    return stream.session_id


async def get(box: Box, query: str = "", status: int = 200) -> Any:
    answer = await box.client.get(f"{PATH}{query}")
    assert answer.status == status, await answer.text()
    return await answer.json() if answer.content_type == "application/json" else await answer.text()


async def test_every_final_is_found_with_its_session_and_times(box: Box) -> None:
    session = await speak(box, 3, 5, name="<b>door</b>")
    rows = (await get(box))["transcripts"]
    assert [row["text"][:3] for row in rows] == ["555", "333"]
    assert rows[0]["session"]["id"] == session
    assert rows[0]["session"]["name"] == "<b>door</b>"
    assert rows[1]["start_ms"] < rows[1]["end_ms"] <= rows[0]["start_ms"]
    found = (await get(box, "?q=333"))["transcripts"]
    assert [row["id"] for row in found] == [rows[1]["id"]]


async def test_commands_are_listed_and_found_by_name(box: Box) -> None:
    fives = Command.model_validate({"name": "fives", "phrases": ["{number}"]})
    box.service.commands.use(CommandMatcher([fives]))
    viewer = await box.client.ws_connect("/api/v1/events")
    await speak(box, 5)
    box.service.commands.use(CommandMatcher())
    await speak(box, 5)
    rows = (await get(box))["transcripts"]
    assert [row.get("command") for row in rows] == [
        None,
        {"name": "fives", "slots": {"number": 5555}},
    ]
    found = (await get(box, "?command=fives"))["transcripts"]
    assert [row["id"] for row in found] == [rows[1]["id"]]
    assert await get(box, "?format=text&command=fives") == "5555\n"
    assert await get(box, "?command=other&q=%22'--") == {"transcripts": [], "next": None}
    told = {}
    while told.get("type") != "command":
        told = await viewer.receive_json(timeout=10)
        if told["type"] == "final":
            assert told["command"] == {"name": "fives", "slots": {"number": 5555}}
    assert (told["name"], told["slots"], told["text"]) == ("fives", {"number": 5555}, "5555")
    await viewer.close()
    assert (await box.client.delete(f"{PATH}?all=true")).status == 200
    late = box.service.hub.subscribe(0)
    late.close()
    assert "5555" not in str([event async for event in late])


async def test_pages_follow_each_other(box: Box) -> None:
    await speak(box, 1, 2, 3)
    first = await get(box, "?limit=2")
    second = await get(box, f"?limit=2&before={first['next']}")
    assert len(first["transcripts"]) == 2
    assert len(second["transcripts"]) == 1
    assert second["next"] is None


async def test_exports(box: Box) -> None:
    await speak(box, 3, 5)
    text = await get(box, "?format=text")
    assert [line[0] for line in text.splitlines()] == ["3", "5"]
    assert (await get(box, "?format=srt")).startswith("1\n00:00:00,")
    assert (await get(box, "?format=vtt")).startswith("WEBVTT\n")
    answer = await box.client.get(f"{PATH}?format=srt")
    assert answer.headers["Content-Disposition"].endswith('.srt"')


async def test_deletion_of_one_and_of_all(box: Box) -> None:
    await speak(box, 3, 5)
    rows = (await get(box))["transcripts"]
    answer = await box.client.delete(f"{PATH}?id={rows[0]['id']}")
    assert await answer.json() == {"deleted": 1}
    assert len((await get(box))["transcripts"]) == 1
    again = await box.client.delete(f"{PATH}?id={rows[0]['id']}")
    assert again.status == 404
    assert await (await box.client.delete(f"{PATH}?all=true")).json() == {"deleted": 1}
    assert (await get(box))["transcripts"] == []
    async with box.client.ws_connect("/api/v1/events?since=0") as viewer:
        told = [(await viewer.receive_json())["type"] for _ in range(3)]
    assert "final" not in told


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=x", "?since=yesterday", "?format=doc", "?colour=red", "?until=nan",
     "?before=99999999999999999999", "?q=" + "a" * 201],
)  # fmt: skip
async def test_wrong_questions_are_named(box: Box, query: str) -> None:
    body = await get(box, query, 400)
    assert body["error"]["message"]


@pytest.mark.parametrize("query", ["", "?all=yes", "?id=1&all=true", "?session="])
async def test_deletion_must_say_what(box: Box, query: str) -> None:
    assert (await box.client.delete(f"{PATH}{query}")).status == 400


async def test_foreign_page_may_not_delete(box: Box) -> None:
    headers = {"Origin": "http://elsewhere.example"}
    assert (await box.client.delete(f"{PATH}?all=true", headers=headers)).status == 403


class TestOff:
    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"history": False}

    async def test_nothing_is_kept(self, box: Box) -> None:
        await speak(box, 3)
        assert (await get(box, status=404))["error"]["code"] == "history_off"
        assert not list(box.state.glob("transcripts*"))
