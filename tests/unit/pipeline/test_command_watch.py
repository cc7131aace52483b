"""Commands in live streams: told behind their final, counted, handed on; the text stays."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from agent.config_commands import Command
from agent.pipeline.command_watch import CommandWatch
from agent.pipeline.service import TranscriptionService
from agent.types import CommandHeard, RecognitionMode, StreamEvent, StreamOptions, Transcript
from agent.voice_commands.matcher import CommandMatcher
from tests.fakes import silence, tone

THREES = Command.model_validate({"name": "threes", "phrases": ["3333"]})
DIGITS = Command.model_validate({"name": "pin", "phrases": ["{digits}"]})


class Actor:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.told: list[tuple[CommandHeard, str]] = []

    def act(self, heard: CommandHeard, source: str) -> None:
        self.told.append((heard, source))


@pytest_asyncio.fixture
async def actor(service: TranscriptionService) -> AsyncIterator[Actor]:
    made = Actor()
    service.commands = CommandWatch(CommandMatcher([THREES]), made.counted.append, made.act)
    yield made


async def speak(
    service: TranscriptionService, *levels: int, mode: RecognitionMode = RecognitionMode.TWO_PASS
) -> list[StreamEvent]:
    stream = await service.open(StreamOptions(mode=mode), source="page")
    for level in levels:
        await stream.push(silence(3))
        await stream.push(tone(level, 4))
        await stream.push(silence(6))
    await stream.finish()
    return [event async for event in stream]


@pytest.mark.parametrize("mode", list(RecognitionMode))
async def test_a_command_follows_its_final_in_every_mode(
    service: TranscriptionService, actor: Actor, mode: RecognitionMode
) -> None:
    subscription = service.hub.subscribe()
    events = await speak(service, 5, 3, mode=mode)
    finals = [e for e in events if isinstance(e, Transcript) and e.is_final]
    assert [final.text for final in finals] == ["5555", "3333"]
    at = next(i for i, e in enumerate(events) if isinstance(e, CommandHeard))
    heard = events[at]
    assert isinstance(heard, CommandHeard)
    assert events[at - 1] == finals[1]
    assert heard.command == finals[1].command
    assert (heard.command.name, heard.text, heard.segment_id) == ("threes", "3333", 1)
    assert finals[0].command is None
    assert actor.counted == ["threes"]
    assert actor.told == [(heard, "page")]
    subscription.close()
    kinds = [event["type"] async for event in subscription]
    assert kinds.count("CommandHeard") == 1


async def test_other_commands_are_in_force_from_the_next_final_on(
    service: TranscriptionService, actor: Actor
) -> None:
    service.commands.use(CommandMatcher([DIGITS]))
    await speak(service, 5)
    assert [heard.command.slots for heard, _ in actor.told] == [{"digits": "5555"}]
    assert service.commands.names == ("pin",)


async def test_partials_set_nothing_off(service: TranscriptionService, actor: Actor) -> None:
    service.commands.use(CommandMatcher([DIGITS]))
    events = await speak(service, 5)
    assert [e for e in events if isinstance(e, Transcript) and not e.is_final]
    assert len(actor.told) == 1


def final(text: str, **more: Any) -> Transcript:
    return Transcript("s1", 0, text, True, 0, 900, **more)


def test_the_log_has_names_and_no_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    commands = [
        Command.model_validate({"name": "a", "phrases": ["播放音乐吉他"]}),
        Command.model_validate({"name": "b", "phrases": ["播放音响吉他"]}),
    ]
    watch = CommandWatch(CommandMatcher(commands))
    assert watch.heard(watch.read(final("播放音月吉他")), "page") is None
    assert watch.heard(watch.read(final("播放音乐吉他")), "page") is not None
    assert caplog.messages == ["no command: a and b are equally near", "command a heard"]
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO"]
    assert (caplog.records[1].command, caplog.records[1].session_id) == ("a", "s1")  # type: ignore[attr-defined]


def test_numbers_are_found_as_spoken_and_as_rewritten() -> None:
    degrees = {"name": "degrees", "phrases": ["调到{number}度"]}
    watch = CommandWatch(CommandMatcher([Command.model_validate(degrees)]))
    for said in (
        final("调到25°C", spoken="调到二十五度"),
        final("调到25°C"),
        final("调到二十五度"),
    ):
        read = watch.read(said)
        assert read.text == said.text
        assert read.command is not None
        assert read.command.slots == {"number": 25}
