"""/api/v1/stream and /api/v1/events on real sockets."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import replace
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import WSMsgType

from tests.fakes import FakePunctuation, fake_models, silence, tone
from tests.unit.web.conftest import Box

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), silence(5)])
Socket = aiohttp.ClientWebSocketResponse


def frame(start: int, samples: np.ndarray) -> bytes:
    return struct.pack("<Q", start) + samples.astype("<i2").tobytes()


async def opened(box: Box, **fields: Any) -> tuple[Socket, dict[str, Any]]:
    socket = await box.client.ws_connect("/api/v1/stream")
    await socket.send_json({"type": "start", "mode": "2pass", **fields})
    return socket, await socket.receive_json(timeout=20)


async def until(socket: Socket, kind: str) -> list[dict[str, Any]]:
    got: list[dict[str, Any]] = []
    while not got or got[-1]["type"] != kind:
        got.append(await socket.receive_json(timeout=20))
    return got


def finals(messages: list[dict[str, Any]]) -> list[str]:
    return [m["text"] for m in messages if m["type"] == "final"]


async def closing(socket: Socket) -> tuple[int | None, str]:
    while True:
        message = await socket.receive(timeout=20)
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
            return socket.close_code, str(message.extra or "")


async def test_audio_is_acknowledged_and_read(box: Box) -> None:
    socket, started = await opened(box)
    assert (started["type"], started["next_sample"], started["resumed"]) == ("started", 0, False)
    for i in range(0, len(TALK), 1600):
        await socket.send_bytes(frame(i, TALK[i : i + 1600]))
    await socket.send_json({"type": "stop"})
    got = await until(socket, "stopped")
    assert finals(got) == ["3333", "77"]
    assert max(m["next_sample"] for m in got if m["type"] == "ack") == len(TALK)
    seqs = [m["seq"] for m in got if "seq" in m]
    assert seqs == sorted(set(seqs))
    assert (await closing(socket))[0] == 1000


async def test_a_cut_stream_goes_on_where_it_was(box: Box) -> None:
    socket, started = await opened(box)
    await socket.send_bytes(frame(0, TALK[:12000]))
    got = await until(socket, "ack")
    assert socket._response.connection is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]
    seen = max([m["seq"] for m in got if "seq" in m], default=0)
    again, restarted = await opened(box, resume_id=started["resume_id"], received_seq=seen)
    assert (restarted["resumed"], restarted["next_sample"]) == (True, 12000)
    assert restarted["session_id"] == started["session_id"]
    await again.send_bytes(frame(8000, TALK[8000:]))
    await again.send_json({"type": "stop"})
    rest = await until(again, "stopped")
    assert finals(got) + finals(rest) == ["3333", "77"]


async def test_a_second_socket_takes_the_stream_over(box: Box) -> None:
    first, started = await opened(box)
    second, restarted = await opened(box, resume_id=started["resume_id"])
    assert restarted["resumed"] is True
    code, reason = await closing(first)
    assert code == 1008
    assert "another connection" in reason
    await second.send_bytes(frame(0, TALK))
    await second.send_json({"type": "stop"})
    assert finals(await until(second, "stopped")) == ["3333", "77"]


@pytest.mark.parametrize("settings", [{"stream": {"resume_s": 0.1}}])
async def test_the_end_of_an_older_socket_does_not_expire_the_stream_of_a_newer(box: Box) -> None:
    first, started = await opened(box)
    second, _ = await opened(box, resume_id=started["resume_id"])
    await first.close()
    await asyncio.sleep(0.5)
    await second.send_bytes(frame(0, TALK))
    await second.send_json({"type": "stop"})
    assert finals(await until(second, "stopped")) == ["3333", "77"]


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.2, "ping_s": 0.05}}])
async def test_a_stream_that_sends_nothing_is_finished(box: Box) -> None:
    socket, _ = await opened(box)
    await socket.send_bytes(frame(0, TALK))
    assert finals(await until(socket, "stopped")) == ["3333", "77"]
    assert (await closing(socket))[0] == 1000


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.2}}])
async def test_a_socket_that_never_starts_is_closed_with_a_reason(box: Box) -> None:
    socket = await box.client.ws_connect("/api/v1/stream")
    code, reason = await closing(socket)
    assert code == 1001
    assert "stream.idle_s" in reason


async def test_an_unknown_resume_id_starts_afresh(box: Box) -> None:
    socket, started = await opened(box, resume_id="gone", received_seq=99)
    assert (started["resumed"], started["next_sample"]) == (False, 0)
    await socket.send_bytes(frame(0, TALK))
    await socket.send_json({"type": "stop"})
    assert finals(await until(socket, "stopped")) == ["3333", "77"]


async def test_a_hole_in_the_audio_is_a_gap_event(box: Box) -> None:
    socket, _ = await opened(box)
    await socket.send_bytes(frame(16000, TALK))
    await socket.send_json({"type": "stop"})
    gaps = [m for m in await until(socket, "stopped") if m["type"] == "gap"]
    assert [(gap["start_ms"], gap["dropped_ms"]) for gap in gaps] == [(0, 1000)]


async def test_ping_is_answered_with_the_same_t(box: Box) -> None:
    socket, _ = await opened(box)
    await socket.send_json({"type": "ping", "t": 12.5})
    assert await socket.receive_json(timeout=20) == {"type": "pong", "t": 12.5}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type": "begin"}', 1007),
        ("{", 1007),
        ('{"type": "stop"}', 1002),
        (b"12345", 1007),
        (frame(0, TALK[:100]) + b"x", 1007),
        (frame(0, TALK[:100]), 1002),
    ],
)
async def test_bad_messages_are_named_then_closed(
    box: Box, message: str | bytes, code: int
) -> None:
    socket = await box.client.ws_connect("/api/v1/stream")
    await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
    told = await socket.receive_json(timeout=20)
    assert (told["type"], told["code"]) == ("error", "protocol")
    assert (await closing(socket))[0] == code
    assert (await box.client.get("/health")).status == 200


async def test_a_client_may_want_no_punctuation(box: Box) -> None:
    box.service.use(replace(fake_models(), punctuation=FakePunctuation()))
    for wanted, read in ((True, ["3333。", "77。"]), (False, ["3333", "77"])):
        socket, _ = await opened(box, punctuation=wanted)
        await socket.send_bytes(frame(0, TALK))
        await socket.send_json({"type": "stop"})
        assert finals(await until(socket, "stopped")) == read


async def test_starting_twice_is_an_error(box: Box) -> None:
    socket, _ = await opened(box)
    await socket.send_json({"type": "start"})
    assert (await until(socket, "error"))[-1]["message"] == "the stream has been started already"


@pytest.mark.parametrize("settings", [{"stream": {"max_sessions": 1}}])
async def test_a_full_box_says_so_and_closes_with_1013(box: Box) -> None:
    first, _ = await opened(box)
    socket, told = await opened(box)
    assert (told["type"], told["code"]) == ("error", "overloaded")
    assert (await closing(socket))[0] == 1013
    await first.close()


async def test_a_recogniser_that_fails_is_an_error_event(box: Box) -> None:
    box.service.use(fake_models(fail_on="77"))
    socket, _ = await opened(box)
    await socket.send_bytes(frame(0, TALK))
    error = (await until(socket, "error"))[-1]
    assert error["code"] == "stream_failed"
    assert "seq" in error


async def test_foreign_pages_are_refused(box: Box) -> None:
    for origin in ("http://evil.example", "null"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await box.client.ws_connect("/api/v1/stream", headers={"Origin": origin})
        assert raised.value.status == 403


async def test_the_own_page_is_not_refused(box: Box) -> None:
    origin = str(box.client.make_url("/")).rstrip("/")
    await (await box.client.ws_connect("/api/v1/stream", headers={"Origin": origin})).close()


async def test_events_begin_with_a_snapshot_and_go_on_with_changes(box: Box) -> None:
    viewer = await box.client.ws_connect("/api/v1/events")
    snapshot = await viewer.receive_json(timeout=20)
    assert (snapshot["type"], snapshot["status"]) == ("snapshot", {"version": "test"})
    socket, started = await opened(box)
    await socket.send_bytes(frame(0, TALK))
    await socket.send_json({"type": "stop"})
    await until(socket, "stopped")
    got = await until(viewer, "session_closed")
    assert got[0]["type"] == "session_opened"
    assert finals(got) == ["3333", "77"]
    assert {m["session_id"] for m in got} == {started["session_id"]}
    assert [m["seq"] for m in got] == sorted({m["seq"] for m in got})


async def test_a_snapshot_names_the_open_sessions_and_what_was_said_in_them(box: Box) -> None:
    socket, started = await opened(box)
    await socket.send_bytes(frame(0, TALK))
    await until(socket, "final")
    viewer = await box.client.ws_connect("/api/v1/events")
    (session,) = (await viewer.receive_json(timeout=20))["sessions"]
    assert (session["session_id"], session["source"]) == (started["session_id"], "page")
    assert session["said"][0]["text"] == "3333"
    assert session["opened"] == pytest.approx(time.time(), abs=60)
    await socket.send_json({"type": "stop"})
    await until(socket, "stopped")
    await until(viewer, "session_closed")
    later = await box.client.ws_connect("/api/v1/events")
    assert (await later.receive_json(timeout=20))["sessions"] == []


async def test_events_since_a_number_replay_what_is_kept(box: Box) -> None:
    for i in range(3):
        box.service.hub.publish("models", {"n": i})
    viewer = await box.client.ws_connect("/api/v1/events?since=1")
    got = [await viewer.receive_json(timeout=20) for _ in range(3)]
    assert [m.get("n") for m in got] == [None, 1, 2]


async def test_a_wrong_since_is_a_400(box: Box) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await box.client.ws_connect("/api/v1/events?since=yesterday")
    assert raised.value.status == 400


async def test_a_viewer_that_leaves_is_forgotten(box: Box) -> None:
    viewer = await box.client.ws_connect("/api/v1/events")
    await viewer.receive_json(timeout=20)
    assert box.service.hub.subscriptions == 1
    await viewer.close()
    for _ in range(300):
        if box.service.hub.subscriptions == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the subscription stays")
