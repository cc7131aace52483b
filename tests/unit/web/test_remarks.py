"""What a model can't honour is said at the start of the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.types import RecognitionMode, StreamOptions
from agent.web.remarks import remarks_of
from tests.fakes import FakeOffline, fake_models
from tests.unit.web.conftest import Box
from tests.unit.web.test_stream_socket import opened

HOTWORDS = (("魔搭", 20),)
ASKED = StreamOptions(hotwords=HOTWORDS)


class Biased(FakeOffline):
    """A recogniser that takes hotwords."""

    can_bias = True

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        return ()


class Unbiased(FakeOffline):
    """One that can't."""

    def remarks(self, options: StreamOptions) -> tuple[str, ...]:
        return ("hotwords are ignored by slow",)


@pytest.mark.parametrize(
    ("offline", "mode", "said"),
    [
        (Unbiased(), RecognitionMode.OFFLINE, "hotwords are ignored by slow"),
        (Unbiased(), RecognitionMode.TWO_PASS, "hotwords are ignored by slow"),
        (Unbiased(), RecognitionMode.ONLINE, "the streaming recogniser takes none"),
        (Biased(), RecognitionMode.TWO_PASS, "partials are read without them"),
        (None, RecognitionMode.TWO_PASS, "the streaming recogniser takes none"),
    ],
)
def test_hotwords_without_effect_are_told(
    offline: FakeOffline | None, mode: RecognitionMode, said: str
) -> None:
    (remark,) = remarks_of(replace(fake_models(), offline=offline), ASKED, mode)
    assert said in remark


def test_nothing_is_said_where_all_is_honoured() -> None:
    models = replace(fake_models(), offline=Biased())
    assert remarks_of(models, ASKED, RecognitionMode.OFFLINE) == ()
    assert remarks_of(fake_models(), StreamOptions(), RecognitionMode.ONLINE) == ()


async def test_the_start_of_a_stream_and_an_event_carry_the_remark(box: Box) -> None:
    box.service.use(replace(fake_models(), offline=Unbiased()))
    events: list[dict[str, Any]] = []
    subscription = box.service.hub.subscribe()
    socket, started = await opened(box, hotwords="魔搭")
    assert started["remarks"] == ["hotwords are ignored by slow"]
    async for event in subscription:
        events.append(event)
        if event["type"] == "remarks":
            break
    assert events[-1]["session_id"] == started["session_id"]
    await socket.close()


async def test_a_stream_without_hotwords_has_no_remark(box: Box) -> None:
    socket, started = await opened(box)
    assert "remarks" not in started
    await socket.close()
