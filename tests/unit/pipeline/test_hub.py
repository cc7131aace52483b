"""The event hub: numbers, history, slow viewers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.errors import Overloaded
from agent.pipeline.hub import Hub, Subscription


async def take(subscription: Subscription, n: int) -> list[dict[str, Any]]:
    got: list[dict[str, Any]] = []
    async for event in subscription:
        got.append(event)
        if len(got) == n:
            break
    return got


def partial(text: str, segment: int = 0) -> dict[str, Any]:
    return {"session_id": "s", "segment_id": segment, "text": text}


async def test_events_are_numbered_and_reach_every_viewer() -> None:
    hub = Hub(10, 10)
    a, b = hub.subscribe(), hub.subscribe()
    hub.publish("final", partial("x"))
    hub.publish("final", partial("y"))
    for viewer in (a, b):
        assert [(e["seq"], e["text"]) for e in await take(viewer, 2)] == [(1, "x"), (2, "y")]


async def test_since_replays_what_is_kept() -> None:
    hub = Hub(3, 10)
    for text in "abcde":
        hub.publish("final", partial(text))
    assert [e["text"] for e in await take(hub.subscribe(0), 3)] == ["c", "d", "e"]
    assert [e["text"] for e in await take(hub.subscribe(4), 1)] == ["e"]


def test_the_last_words_of_a_session_are_the_newest_of_each_segment() -> None:
    hub = Hub(10, 10)
    for segment, kind, text in ((0, "final", "a"), (1, "partial", "b"), (1, "partial", "bc")):
        hub.publish(kind, partial(text, segment))
    hub.publish("final", {**partial("other"), "session_id": "t"})
    assert [(e["type"], e["text"]) for e in hub.last_words(5)["s"]] == [
        ("final", "a"),
        ("partial", "bc"),
    ]
    assert [e["text"] for e in hub.last_words(1)["s"]] == ["bc"]
    hub.forget_words("s")
    assert set(hub.last_words(5)) == {"t"}


async def test_waiting_partials_of_a_segment_are_coalesced_and_finals_kept() -> None:
    hub = Hub(10, 3)
    viewer = hub.subscribe()
    for i in range(20):
        hub.publish("partial", partial(str(i)))
    hub.publish("final", partial("done"))
    assert [e["text"] for e in await take(viewer, 2)] == ["19", "done"]


async def test_a_viewer_that_falls_behind_is_cut_off() -> None:
    hub = Hub(10, 2)
    viewer = hub.subscribe()
    for text in "abc":
        hub.publish("final", partial(text))
    with pytest.raises(Overloaded, match="more than 2 events"):
        await take(viewer, 3)
    assert hub.subscriptions == 0


async def test_too_many_viewers_are_refused() -> None:
    hub = Hub(10, 2, max_subscriptions=1)
    first = hub.subscribe()
    with pytest.raises(Overloaded):
        hub.subscribe()
    first.close()
    hub.subscribe()


async def test_close_ends_the_iteration() -> None:
    hub = Hub(10, 2)
    viewer = hub.subscribe()
    task = asyncio.create_task(take(viewer, 1))
    await asyncio.sleep(0)
    viewer.close()
    assert await task == []


async def test_a_passing_event_is_not_kept_and_replaces_the_one_that_waits() -> None:
    hub = Hub(10, 3)
    viewer = hub.subscribe()
    hub.publish("microphone", {"level_dbfs": -60})
    for level in range(-50, -40):
        hub.publish("microphone", {"level_dbfs": level}, passing=True)
    viewer.close()
    assert [event["level_dbfs"] async for event in viewer] == [-60, -41]
    later = hub.subscribe(0)
    later.close()
    assert [event["level_dbfs"] async for event in later] == [-60]
