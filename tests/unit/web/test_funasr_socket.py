"""FunASR's protocol on a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
from aiohttp import WSMsgType

from tests.fakes import fake_models, silence, tone
from tests.unit.web.conftest import Box

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), silence(5)])
END = {"is_speaking": False}


async def talk(
    socket: aiohttp.ClientWebSocketResponse, data: bytes, size: int = 1920, **fields: Any
) -> None:
    await socket.send_json({"is_speaking": True, "wav_name": "demo", **fields})
    for i in range(0, len(data), size):
        await socket.send_bytes(data[i : i + size])
    await socket.send_json(END)


async def until_final(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    got = []
    while not got or not got[-1]["is_final"]:
        got.append(await socket.receive_json(timeout=20))
    return got


async def closing(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """Close code and reason, past what is sent before."""
    while True:
        message = await socket.receive(timeout=20)
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
            return socket.close_code, str(message.extra or "")


async def session_open(box: Box) -> None:
    for _ in range(1000):
        if box.service.sessions:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no session was opened")


@pytest.mark.parametrize("path", ["/", "/ws"])
async def test_offline_over_both_paths(box: Box, path: str) -> None:
    socket = await box.client.ws_connect(path, protocols=("binary",))
    assert socket.protocol == "binary"
    await talk(socket, TALK.tobytes(), mode="offline")
    assert await until_final(socket) == [
        {"mode": "offline", "text": "3333 77", "wav_name": "demo", "is_final": True}
    ]


@pytest.mark.parametrize("size", [960, 1001, 204800])
async def test_2pass_gives_partials_sentences_and_one_final(box: Box, size: int) -> None:
    socket = await box.client.ws_connect("/")
    await talk(socket, TALK.tobytes(), size, mode="2pass")
    got = await until_final(socket)
    assert [m["text"] for m in got if m["mode"] == "2pass-offline"] == ["3333", " 77", ""]
    assert [m for m in got if m["mode"] == "2pass-online"]


async def test_the_same_socket_starts_over_with_its_acknowledgement(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    for name in ("a", "b"):
        await socket.send_json({"mode": "offline", "wav_name": name})
        await socket.send_bytes(TALK.tobytes())
        await socket.send_json({"is_speaking": False, "is_end": True})
        flush = await socket.receive_json(timeout=20)
        acknowledgement = await socket.receive_json(timeout=20)
        assert (flush["wav_name"], flush["text"]) == (name, "3333 77")
        assert (acknowledgement["is_end"], acknowledgement["is_final"]) == (True, True)


async def test_a_flac_file_in_pieces_is_decoded_at_the_end(box: Box) -> None:
    file = io.BytesIO()
    soundfile.write(file, TALK, 16000, format="FLAC")
    socket = await box.client.ws_connect("/")
    await talk(socket, file.getvalue(), 1000, wav_format="flac")
    assert (await until_final(socket))[-1]["text"] == "3333 77"


async def test_a_container_that_is_no_audio_is_said(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await talk(socket, b"a letter" * 100, wav_format="mp3")
    got = (await until_final(socket))[-1]
    assert got["text"] == ""
    assert got["error"].startswith("demo: is not audio")


async def test_an_undecodable_file_with_is_end_is_acknowledged_as_failed(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_json({"wav_format": "mp3", "wav_name": "demo"})
    await socket.send_bytes(b"a letter" * 100)
    await socket.send_json({"is_speaking": False, "is_end": True})
    got = await socket.receive_json(timeout=20)
    assert (got["is_end"], got["is_final"]) == (True, False)
    assert got["error"]


async def test_a_file_in_online_mode_is_told_as_online(box: Box) -> None:
    file = io.BytesIO()
    soundfile.write(file, TALK, 16000, format="FLAC")
    socket = await box.client.ws_connect("/")
    await talk(socket, file.getvalue(), 1000, wav_format="flac", mode="online")
    got = await until_final(socket)
    assert {m["mode"] for m in got} == {"online"}
    assert "".join(m["text"] for m in got) == "3333 77"


async def test_a_truncated_file_gives_its_text_and_says_what_is_missing(box: Box) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([TALK, TALK]), 16000, format="WAV", subtype="PCM_24")
    data = file.getvalue()
    socket = await box.client.ws_connect("/")
    await talk(socket, data[: len(data) // 2], wav_format="wav")
    got = (await until_final(socket))[-1]
    assert got["text"] == "3333 77"
    assert got["warning"].startswith("demo: ")


async def test_a_stray_byte_is_told(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await talk(socket, TALK.tobytes() + b"x", 1001, mode="offline")
    got = (await until_final(socket))[-1]
    assert got["text"] == "3333 77"
    assert "1 byte" in got["warning"]


@pytest.mark.parametrize("settings", [{"uploads": {"max_mb": 1}}])
async def test_a_container_beyond_the_limit_closes_with_1009(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_json({"wav_format": "mp3"})
    for _ in range(3):
        await socket.send_bytes(bytes(500_000))
    code, reason = await closing(socket)
    assert code == 1009
    assert "uploads.max_mb" in reason


@pytest.mark.parametrize("text", ["{", '{"chunk_size": [1]}', '{"audio_fs": 1e9}'])
async def test_a_bad_message_closes_with_1007_and_the_box_serves_on(box: Box, text: str) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_str(text)
    told = json.loads((await socket.receive(timeout=20)).data)
    assert told["error"]
    assert (await closing(socket))[0] == 1007
    again = await box.client.ws_connect("/")
    await talk(again, TALK.tobytes(), mode="offline")
    assert (await until_final(again))[-1]["text"] == "3333 77"


@pytest.mark.parametrize("settings", [{"stream": {"max_message_bytes": 65536}}])
async def test_too_large_a_message_closes_with_1009(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_bytes(bytes(70_000))
    code, reason = await closing(socket)
    assert code == 1009
    assert "stream.max_message_bytes" in reason


async def test_text_that_is_not_utf8_closes_with_1007_and_a_reason(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_frame(b"\xff\xfe", WSMsgType.TEXT)
    code, reason = await closing(socket)
    assert code == 1007
    assert "UTF-8" in reason


@pytest.mark.parametrize("settings", [{"stream": {"max_sessions": 1}}])
async def test_a_full_box_closes_with_1013_and_a_reason(box: Box) -> None:
    first = await box.client.ws_connect("/")
    await first.send_bytes(TALK.tobytes())
    await session_open(box)
    second = await box.client.ws_connect("/")
    await second.send_bytes(TALK.tobytes())
    code, reason = await closing(second)
    assert code == 1013
    assert "streams are open" in reason


async def test_without_models_the_socket_closes_with_1013_and_the_reason(box: Box) -> None:
    box.service.unavailable("no usable model: broken")
    socket = await box.client.ws_connect("/")
    await socket.send_bytes(TALK.tobytes())
    code, reason = await closing(socket)
    assert code == 1013
    assert "broken" in reason


async def test_a_recogniser_that_fails_ends_its_stream_and_the_socket_starts_over(
    box: Box,
) -> None:
    box.service.use(fake_models(fail_on="77"))
    socket = await box.client.ws_connect("/")
    await talk(socket, TALK.tobytes(), mode="2pass")
    assert "the graph broke" in (await until_final(socket))[-1]["error"]
    box.service.use(fake_models())
    await talk(socket, TALK.tobytes(), mode="offline")
    assert (await until_final(socket))[-1]["text"] == "3333 77"


async def test_a_client_that_vanishes_leaves_no_session(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_bytes(TALK.tobytes())
    await session_open(box)
    assert socket._response.connection is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]
    for _ in range(500):
        if box.service.sessions == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the session stays open")


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.2, "ping_s": 0.05}}])
async def test_a_silent_client_that_answers_pings_gets_its_finals_and_a_close(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_bytes(TALK.tobytes())
    assert (await until_final(socket))[-1]["is_final"]
    code, reason = await closing(socket)
    assert code == 1001
    assert "stream.idle_s" in reason


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.2}}])
async def test_a_long_recognition_is_not_idle(box: Box) -> None:
    gate = threading.Event()
    box.service.use(fake_models(gate=gate))
    socket = await box.client.ws_connect("/")
    await talk(socket, TALK.tobytes(), mode="offline")
    await asyncio.sleep(0.7)
    gate.set()
    assert (await until_final(socket))[-1]["text"] == "3333 77"


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.1}}])
async def test_a_socket_between_two_streams_may_wait(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    for _ in range(2):
        await asyncio.sleep(0.4)
        await talk(socket, TALK.tobytes(), mode="offline")
        assert (await until_final(socket))[-1]["text"] == "3333 77"


async def test_a_failure_before_the_end_is_acknowledged_when_the_end_asks(box: Box) -> None:
    box.service.use(fake_models(fail_on="3333"))
    socket = await box.client.ws_connect("/")
    await socket.send_bytes(TALK.tobytes())
    assert "the graph broke" in (await until_final(socket))[-1]["error"]
    await socket.send_json({"is_speaking": False, "is_end": True})
    got = await socket.receive_json(timeout=20)
    assert (got["is_end"], got["is_final"]) == (True, False)


@pytest.mark.parametrize("settings", [{"stream": {"ping_s": 0.05}}])
async def test_the_box_pings_and_does_not_demand_an_answer(box: Box) -> None:
    socket = await box.client.ws_connect("/", autoping=False)
    for _ in range(3):
        assert (await socket.receive(timeout=20)).type is WSMsgType.PING
    await talk(socket, TALK.tobytes(), mode="offline")
    while True:
        message = await socket.receive(timeout=20)
        if message.type is WSMsgType.TEXT:
            assert json.loads(message.data)["text"] == "3333 77"
            return


async def test_a_stop_of_the_box_sends_the_finals_and_closes_with_1001(box: Box) -> None:
    socket = await box.client.ws_connect("/")
    await socket.send_json({"mode": "2pass"})
    await socket.send_bytes(TALK[: 16 * 700].tobytes())
    await session_open(box)
    await asyncio.sleep(0.2)
    assert box.client.app is not None
    stopping = asyncio.create_task(box.client.app.shutdown())
    got = await until_final(socket)
    assert "3333" in [m["text"] for m in got if m["mode"] == "2pass-offline"]
    code, reason = await closing(socket)
    assert code == 1001
    assert "stopping" in reason
    await stopping


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.example", 403), ("null", 101), (None, 101)]
)
async def test_foreign_pages_are_refused_and_programs_and_local_files_are_not(
    box: Box, origin: str | None, status: int
) -> None:
    headers = {"Origin": origin} if origin else {}
    if status == 101:
        await (await box.client.ws_connect("/", headers=headers)).close()
        return
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await box.client.ws_connect("/", headers=headers)
    assert raised.value.status == status
