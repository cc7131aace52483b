"""/v1/realtime on real sockets, over fake models."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
import soxr

from agent.config_commands import Command
from agent.voice_commands.matcher import CommandMatcher
from tests.fakes import fake_models, silence, tone
from tests.unit.web.conftest import Box
from tests.unit.web.test_stream_socket import closing
from tests.unit.web.test_uploads import until

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), silence(5)])
URL = "/v1/realtime?intent=transcription"
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
Socket = aiohttp.ClientWebSocketResponse


async def connected(box: Box, **settings: Any) -> Socket:
    """A socket for 16 kHz audio, its session set."""
    socket = await box.client.ws_connect(URL)
    assert (await socket.receive_json(timeout=20))["type"] == "session.created"
    inside = {"format": {"type": "audio/pcm", "rate": 16000}, **settings}
    await update(socket, inside)
    return socket


async def update(socket: Socket, inside: dict[str, Any]) -> dict[str, Any]:
    session = {"type": "transcription", "audio": {"input": inside}}
    await socket.send_json({"type": "session.update", "session": session})
    answer: dict[str, Any] = await socket.receive_json(timeout=20)
    assert answer["type"] == "session.updated", answer
    return answer["session"]  # type: ignore[no-any-return]


async def append(socket: Socket, data: bytes, step: int = 3200) -> None:
    for i in range(0, len(data), step):
        audio = base64.b64encode(data[i : i + step]).decode()
        await socket.send_json({"type": "input_audio_buffer.append", "audio": audio})


async def commit(socket: Socket) -> None:
    await socket.send_json({"type": "input_audio_buffer.commit"})


async def completed(socket: Socket, count: int) -> list[dict[str, Any]]:
    """All events up to the so-manieth text."""
    got: list[dict[str, Any]] = []
    while sum(e["type"] == COMPLETED for e in got) < count:
        got.append(await socket.receive_json(timeout=20))
    return got


def kinds(events: list[dict[str, Any]], item_id: str) -> list[str]:
    short = [e["type"].split(".")[-1] for e in events if e.get("item_id") == item_id]
    return list(dict.fromkeys(short))


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [e["transcript"] for e in events if e["type"] == COMPLETED]


async def test_spoken_commands_change_nothing_here(box: Box) -> None:
    command = Command.model_validate({"name": "threes", "phrases": ["3333"]})
    box.service.commands.use(CommandMatcher([command]))
    told = box.service.hub.subscribe()
    socket = await connected(box)
    await append(socket, TALK.tobytes())
    assert texts(await completed(socket, 2)) == ["3333", "77"]
    await socket.close()
    await until(lambda: box.service.sessions == 0)
    told.close()
    assert [event["name"] async for event in told if event["type"] == "command"] == ["threes"]


async def test_the_vad_makes_an_item_of_each_segment(box: Box) -> None:
    socket = await connected(box)
    await append(socket, TALK.tobytes())
    got = await completed(socket, 2)
    assert texts(got) == ["3333", "77"]
    first, second = (e["item_id"] for e in got if e["type"] == COMPLETED)
    wanted = ["speech_started", "delta", "speech_stopped", "committed", "completed"]
    assert sorted(kinds(got, first)) == sorted(wanted)
    assert kinds(got, first)[0] == "speech_started"
    assert kinds(got, first)[-1] == "completed"
    previous = [e["previous_item_id"] for e in got if e["type"].endswith("committed")]
    assert previous == [None, first]
    deltas = [e["delta"] for e in got if e["type"] == DELTA and e["item_id"] == second]
    assert "".join(deltas) == "77"
    started = [e["audio_start_ms"] for e in got if e["type"].endswith("speech_started")]
    assert started[1] - started[0] == 1000
    assert len({e["event_id"] for e in got}) == len(got)
    await socket.close()
    await until(lambda: not box.service.sessions)


async def test_the_client_makes_an_item_of_what_it_commits(box: Box) -> None:
    socket = await connected(box, turn_detection=None)
    for _ in range(2):
        await append(socket, TALK.tobytes())
        await commit(socket)
        got = await completed(socket, 1)
        assert texts(got) == ["3333 77"]
        assert "".join(e["delta"] for e in got if e["type"] == DELTA) == "3333 77"
        assert len({e["item_id"] for e in got if "item_id" in e}) == 1
    assert not [e for e in got if "speech" in e["type"]]
    await socket.close()


async def test_a_commit_ends_a_segment_that_the_vad_still_hears(box: Box) -> None:
    socket = await connected(box)
    await append(socket, tone(4, 5).tobytes())
    await commit(socket)
    assert texts(await completed(socket, 1)) == ["44444"]
    await append(socket, TALK.tobytes())
    got = await completed(socket, 2)
    assert texts(got) == ["3333", "77"]
    started = [e["audio_start_ms"] for e in got if e["type"].endswith("speech_started")]
    assert 500 < started[0] < 1000
    await socket.close()


async def test_a_commit_of_silence_is_an_item_without_text(box: Box) -> None:
    socket = await connected(box)
    await append(socket, silence(10).tobytes())
    await commit(socket)
    assert texts(await completed(socket, 1)) == [""]
    await socket.close()


async def test_what_is_cleared_is_forgotten(box: Box) -> None:
    socket = await connected(box, turn_detection=None)
    await append(socket, tone(4, 5).tobytes())
    await socket.send_json({"type": "input_audio_buffer.clear"})
    while (event := await socket.receive_json(timeout=20))["type"] == DELTA:
        pass
    assert event["type"] == "input_audio_buffer.cleared"
    await append(socket, TALK.tobytes())
    await commit(socket)
    assert texts(await completed(socket, 1)) == ["3333 77"]
    await socket.close()


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/pcmu", "audio/pcma"])
async def test_each_format_is_read(box: Box, kind: str) -> None:
    socket = await box.client.ws_connect(URL)
    await socket.receive_json(timeout=20)
    shown = await update(socket, {"format": {"type": kind}, "turn_detection": None})
    assert shown["audio"]["input"]["format"]["type"] == kind
    if kind == "audio/pcm":
        assert shown["audio"]["input"]["format"]["rate"] == 24000
        data = soxr.resample(TALK, 16000, 24000).astype("<i2").tobytes()
    else:
        raw = io.BytesIO()
        law = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}[kind]
        soundfile.write(raw, TALK[::2], 8000, format="RAW", subtype=law)
        data = raw.getvalue()
    await append(socket, data, step=1001)  # samples may be cut in two
    await commit(socket)
    assert texts(await completed(socket, 1)) == ["3333 77"]
    await socket.close()


async def test_the_settings_in_force_are_shown(box: Box) -> None:
    socket = await connected(box)
    inside = {
        "transcription": {"model": "gpt-4o-transcribe", "language": "zh", "prompt": "FunASR"},
        "turn_detection": {"type": "semantic_vad"},
    }
    shown = (await update(socket, inside))["audio"]["input"]
    assert shown["transcription"] == inside["transcription"]
    assert shown["turn_detection"] == {
        "type": "server_vad",
        "silence_duration_ms": box.live.current.recognition.max_end_silence_ms,
        "prefix_padding_ms": box.live.current.recognition.pre_roll_ms,
    }
    assert shown["format"]["rate"] == 16000
    await socket.close()


async def test_the_beta_is_spoken_to_who_asks_for_it(box: Box) -> None:
    socket = await box.client.ws_connect(URL, headers={"OpenAI-Beta": "realtime=v1"})
    created = await socket.receive_json(timeout=20)
    assert created["type"] == "transcription_session.created"
    session = {"input_audio_format": "g711_ulaw", "turn_detection": None}
    await socket.send_json({"type": "transcription_session.update", "session": session})
    updated = await socket.receive_json(timeout=20)
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    await socket.close()


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("no json", None, "invalid_json"),
        ("[1]", None, "invalid_json"),
        ({"type": "response.create"}, "type", "invalid_value"),
        ({"type": ["a"]}, "type", "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "audio", "invalid_value"),
        ({"type": "input_audio_buffer.append"}, "audio", "invalid_value"),
        ({"type": "input_audio_buffer.commit"}, None, "input_audio_buffer_commit_empty"),
        ({"type": "session.update"}, "session", "invalid_value"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "session.type", None),
        ({"type": "session.update", "session": {"audio": 3}}, "session.audio.input", None),
    ],
)
async def test_a_wrong_event_is_told_and_the_session_goes_on(
    box: Box, message: Any, param: str | None, code: str | None
) -> None:
    socket = await connected(box, turn_detection=None)
    if isinstance(message, dict):
        message = json.dumps({**message, "event_id": "mine"})
    await socket.send_str(message)
    event = await socket.receive_json(timeout=20)
    assert (event["type"], event["error"]["type"]) == ("error", "invalid_request_error")
    assert event["error"]["param"] in (param, "audio")
    assert code in (None, event["error"]["code"])
    assert event["error"]["event_id"] == ("mine" if "mine" in message else None)
    await append(socket, TALK.tobytes())
    await commit(socket)
    assert texts(await completed(socket, 1)) == ["3333 77"]
    await socket.close()


@pytest.mark.parametrize(
    "inside",
    [
        {"format": {"type": "audio/mp3"}},
        {"format": {"type": "audio/pcm", "rate": 7}},
        {"format": {"type": "audio/pcm", "rate": True}},
        {"format": 1},
        {"turn_detection": {"type": "ears"}},
        {"turn_detection": "server_vad"},
        {"transcription": {"language": "not a language"}},
        {"transcription": {"prompt": 5}},
        {"transcription": {"keywords": "x"}},
    ],
)
async def test_a_wrong_setting_is_named(box: Box, inside: dict[str, Any]) -> None:
    socket = await connected(box)
    session = {"type": "transcription", "audio": {"input": inside}}
    await socket.send_json({"type": "session.update", "session": session})
    event = await socket.receive_json(timeout=20)
    assert event["type"] == "error"
    assert event["error"]["param"]
    await socket.close()


async def test_a_recogniser_that_fails_fails_its_item_and_the_next_works(box: Box) -> None:
    box.service.use(fake_models(fail_on="77"))
    socket = await connected(box, turn_detection=None)
    await append(socket, TALK.tobytes())
    await commit(socket)
    got = [await socket.receive_json(timeout=20)]
    while not got[-1]["type"].endswith("failed"):
        got.append(await socket.receive_json(timeout=20))
    assert got[-1]["error"]["code"] == "stream_failed"
    box.service.use(fake_models())
    await append(socket, TALK.tobytes())
    await commit(socket)
    assert texts(await completed(socket, 1)) == ["3333 77"]
    await socket.close()


async def test_without_models_it_is_told_and_closed(box: Box) -> None:
    box.service.unavailable("no usable model")
    socket = await box.client.ws_connect(URL)
    assert (await socket.receive_json(timeout=20))["error"]["code"] == "not_ready"
    assert (await closing(socket))[0] == 1013


async def test_another_intent_is_refused(box: Box) -> None:
    answer = await box.client.get("/v1/realtime?intent=conversation")
    assert answer.status == 400
    assert "transcription" in (await answer.json())["error"]["message"]


async def test_a_foreign_page_is_refused(box: Box) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await box.client.ws_connect(URL, headers={"Origin": "http://elsewhere.example"})
    assert refused.value.status == 403


async def test_a_stop_gives_the_texts_that_are_due(box: Box) -> None:
    socket = await connected(box, turn_detection=None)
    await append(socket, TALK.tobytes())
    heard = ""
    while heard != "3333 77":
        heard += (await socket.receive_json(timeout=20)).get("delta", "")
    stopping = asyncio.create_task(box.client.server.app.shutdown())
    assert texts(await completed(socket, 1)) == ["3333 77"]
    assert (await closing(socket))[0] == 1001
    await stopping
