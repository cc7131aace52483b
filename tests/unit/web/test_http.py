"""The REST side: statuses, error bodies, headers."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from tests.fakes import fake_models, silence, tone
from tests.unit.web.conftest import Box

TALK = np.concatenate([silence(3), tone(3, 4), silence(6), tone(7, 2), silence(5)])


def wav(samples: np.ndarray = TALK, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def form(data: bytes | None = None, **fields: str) -> aiohttp.FormData:
    made = aiohttp.FormData()
    for name, value in fields.items():
        made.add_field(name, value)
    if data is not None:
        made.add_field("file", data, filename="a.wav")
    return made


async def post(box: Box, data: aiohttp.FormData) -> tuple[int, Any]:
    async with box.client.post("/v1/audio/transcriptions", data=data) as answer:
        if answer.content_type == "application/json":
            return answer.status, await answer.json()
        return answer.status, await answer.text()


async def test_an_upload_is_transcribed(box: Box) -> None:
    assert await post(box, form(wav())) == (200, {"text": "3333 77"})


async def test_response_format_text(box: Box) -> None:
    assert await post(box, form(wav(), response_format="text")) == (200, "3333 77\n")


async def test_an_unknown_response_format_names_the_supported_ones(box: Box) -> None:
    status, body = await post(box, form(wav(), response_format="yaml"))
    assert status == 400
    assert "json, text" in body["error"]["message"]


async def test_stream_true_is_refused_plainly(box: Box) -> None:
    status, body = await post(box, form(wav(), stream="true"))
    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_a_truncated_file_gives_its_text_and_says_what_is_missing(box: Box) -> None:
    data = wav(np.concatenate([TALK, TALK]))
    status, body = await post(box, form(data[: len(data) // 2]))
    assert (status, body["text"]) == (200, "3333 77")
    assert body["warning"].startswith("a.wav: ")


async def test_a_request_without_a_file_is_400(box: Box) -> None:
    status, body = await post(box, form(model="whisper-1"))
    assert status == 400
    assert "named file" in body["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        "garbage",
        "--other\r\n\r\nx\r\n--other--",
        "--cut\r\nno header\r\n\r\nx\r\n--cut--",
        '--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nx',
        "--cut\r\nX-Long: " + "x" * 100_000 + "\r\n\r\nx\r\n--cut--",
    ],
)
async def test_a_malformed_form_is_400(box, body, caplog):
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    path = "/v1/audio/transcriptions"
    async with box.client.post(path, data=body.encode(), headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "bad_request"
    assert "Traceback" not in caplog.text


async def test_a_request_that_is_no_multipart_is_400(box: Box) -> None:
    async with box.client.post("/v1/audio/transcriptions", json={"file": "x"}) as answer:
        assert answer.status == 400
        assert "multipart" in (await answer.json())["error"]["message"]


async def test_a_file_that_is_no_audio_is_415(box: Box) -> None:
    status, body = await post(box, form(b"this is a letter, not audio" * 100))
    assert (status, body["error"]["code"]) == (415, "not_audio")
    assert body["error"]["message"].startswith("a.wav: is not audio")


async def test_two_files_in_one_request_are_400(box: Box) -> None:
    data = form(wav())
    data.add_field("file", wav(), filename="b.wav")
    status, body = await post(box, data)
    assert status == 400
    assert "two parts" in body["error"]["message"]


@pytest.mark.parametrize("settings", [{"uploads": {"concurrent": 1}}])
async def test_the_most_files_at_a_time_are_bounded_and_a_client_that_leaves_makes_room(
    box: Box,
) -> None:
    gate = threading.Event()
    box.service.use(fake_models(gate=gate))
    leaving = asyncio.create_task(post(box, form(wav())))
    for _ in range(500):
        if box.service.sessions:
            break
        await asyncio.sleep(0.01)
    async with box.client.post("/v1/audio/transcriptions", data=form(wav())) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert "uploads.concurrent" in (await answer.json())["error"]["message"]
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    for _ in range(500):
        if not box.service.sessions:
            break
        await asyncio.sleep(0.01)
    assert box.service.sessions == 0
    gate.set()
    assert (await post(box, form(wav())))[0] == 200


@pytest.mark.parametrize("settings", [{"uploads": {"max_duration_s": 1}}])
async def test_too_long_audio_is_413(box: Box) -> None:
    status, body = await post(box, form(wav()))
    assert status == 413
    assert "uploads.max_duration_s" in body["error"]["message"]


@pytest.mark.parametrize("settings", [{"uploads": {"max_mb": 1}}])
async def test_too_large_a_file_is_413(box: Box) -> None:
    status, body = await post(box, form(bytes(1024 * 1024 + 300_000)))
    assert (status, body["error"]["code"]) == (413, "too_large")


async def test_without_models_an_upload_is_503_with_retry_after(box: Box) -> None:
    box.service.unavailable("no usable model: broken")
    async with box.client.post("/v1/audio/transcriptions", data=form(wav())) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "broken" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("settings", [{"stream": {"max_sessions": 1}}])
async def test_a_full_box_is_503_with_retry_after(box: Box) -> None:
    socket = await box.client.ws_connect("/api/v1/stream")
    await socket.send_json({"type": "start"})
    await socket.receive_json()
    async with box.client.post("/v1/audio/transcriptions", data=form(wav())) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
    await socket.close()


async def test_a_recogniser_that_fails_is_500_and_the_next_upload_works(box: Box) -> None:
    box.service.use(fake_models(fail_on="77"))
    status, body = await post(box, form(wav()))
    assert (status, body["error"]["code"]) == (500, "stream_failed")
    box.service.use(fake_models())
    assert (await post(box, form(wav())))[0] == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
async def test_health_routes_follow_the_state(box: Box, path: str) -> None:
    assert (await box.client.get(path)).status == 200
    box.status.usable = False
    assert (await box.client.get(path)).status == 503


async def test_status_models_and_metrics(box: Box) -> None:
    assert await (await box.client.get("/api/v1/status")).json() == {"version": "test"}
    found = await (await box.client.get("/api/v1/models")).json()
    assert (len(found["roles"]), found["models"]) == (2, [])
    listed = await (await box.client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["o"]
    answer = await box.client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"


async def test_a_plain_get_of_the_root_is_the_page(box: Box) -> None:
    for path in ("/", "/static/index.html"):
        answer = await box.client.get(path)
        assert answer.status == 200
        assert answer.content_type == "text/html"


async def test_the_pages_files_are_asked_for_again_after_an_update(box: Box) -> None:
    for path in ("/", "/static/stream.js"):
        answer = await box.client.get(path)
        assert answer.headers["Cache-Control"] == "no-cache"
        again = await box.client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


async def test_every_answer_has_the_security_headers(box: Box) -> None:
    for path in ("/", "/health", "/nothing"):
        headers = (await box.client.get(path)).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


async def test_an_unknown_path_is_a_json_404(box: Box) -> None:
    answer = await box.client.get("/nothing")
    assert answer.status == 404
    assert (await answer.json())["error"]["code"] == "not_found"


async def test_a_wrong_method_is_a_json_405(box: Box) -> None:
    answer = await box.client.delete("/v1/audio/transcriptions")
    assert answer.status == 405
    assert (await answer.json())["error"]["code"] == "method_not_allowed"
