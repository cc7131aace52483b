"""OpenAI's shape of transcriptions: formats, streaming, fields, limits, giving up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import aiohttp
import numpy as np
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.web.context import CONTEXT
from agent.web.errors import errors_as_json
from agent.web.form import SLOWEST_BYTES_S, Pace, receive_form
from tests.fakes import FakePunctuation, fake_models, silence, tone
from tests.unit.web.conftest import Box
from tests.unit.web.test_http import TALK, form, post, wav

URL = "/v1/audio/transcriptions"
LONG = np.concatenate([TALK] * 40)


def events_of(body: str) -> list[Any]:
    """The data of server-sent events; a comment stands for itself."""
    parts = [part for part in body.split("\n\n") if part]
    assert all(part.startswith("data: ") for part in parts)
    data = [part.removeprefix("data: ") for part in parts]
    return [part if part == "[DONE]" else json.loads(part) for part in data]


async def streamed(box: Box, data: aiohttp.FormData) -> list[Any]:
    async with box.client.post(URL, data=data) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        return events_of(await answer.text())


def nameless_files() -> list[str]:
    """Uploads that are kept on disk."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            links.append(os.readlink(link))
    return [link for link in links if link.startswith("/") and link.endswith("(deleted)")]


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_verbose_json_has_segments_with_times(box: Box) -> None:
    status, body = await post(box, form(wav(), response_format="verbose_json"))
    assert status == 200
    assert (body["task"], body["text"], body["language"]) == ("transcribe", "3333 77", "und")
    assert body["duration"] == 2.0
    found = [(s["id"], s["text"], s["start"], s["end"]) for s in body["segments"]]
    assert found == [(0, "3333", 0.2, 0.7), (1, "77", 1.2, 1.5)]
    assert "words" not in body


async def test_words_are_there_only_when_asked_for(box: Box) -> None:
    data = form(wav(), response_format="verbose_json", language="EN")
    data.add_field("timestamp_granularities[]", "word")
    _, body = await post(box, data)
    assert "segments" not in body
    assert body["language"] == "en"
    assert [(w["word"], w["start"]) for w in body["words"]] == [("3333", 0.2), ("77", 1.2)]


async def test_both_granularities_give_both(box: Box) -> None:
    data = form(wav(), response_format="verbose_json")
    for wanted in ("word", "segment"):
        data.add_field("timestamp_granularities[]", wanted)
    _, body = await post(box, data)
    assert (len(body["segments"]), len(body["words"])) == (2, 2)


async def test_subtitles(box: Box) -> None:
    _, srt = await post(box, form(wav(), response_format="srt"))
    assert srt.startswith("1\n00:00:00,200 --> 00:00:00,700\n3333\n\n2\n")
    async with box.client.post(URL, data=form(wav(), response_format="vtt")) as answer:
        assert answer.content_type == "text/vtt"
        assert (await answer.text()).startswith("WEBVTT\n\n00:00:00.200 --> 00:00:00.700\n3333\n")


async def test_streamed_deltas_joined_are_the_text(box: Box) -> None:
    *deltas, done, end = await streamed(box, form(wav(), stream="true"))
    assert end == "[DONE]"
    assert done == {"type": "transcript.text.done", "text": "3333 77"}
    assert [d["delta"] for d in deltas] == ["3333", " 77"]


async def test_a_streamed_verbose_json_ends_with_all_its_fields(box: Box) -> None:
    events = await streamed(box, form(wav(), stream="true", response_format="verbose_json"))
    assert [s["text"] for s in events[-2]["segments"]] == ["3333", "77"]


async def test_progress_is_told_when_it_is_asked_for(box: Box) -> None:
    events = await streamed(box, form(wav(LONG), stream="true", progress="true"))
    told = [e for e in events if e != "[DONE]" and e["type"] == "progress"]
    assert told[-1] == {"type": "progress", "position": 80.0, "duration": 80.0}
    positions = [e["position"] for e in told]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": "diarized_json"}, "json, text, srt, verbose_json, vtt"),
        ({"stream": "true", "response_format": "srt"}, "can't be streamed"),
        ({"stream": "perhaps"}, "true and false"),
        ({"timestamp_granularities[]": "char"}, "word and segment"),
        ({"language": "zh\r\nX: y"}, "a code like zh or en"),
        ({"include[]": "logprobs"}, "logprobs"),
        ({"hotwords": '{"a": "much"}'}, "weights are numbers"),
        ({"prompt": "x " + " ".join(str(i) for i in range(2000))}, "at most 1000"),
        ({"model": "m" * 300}, "model is longer"),
    ],
)
async def test_a_wrong_field_is_400_and_named(box: Box, fields: dict[str, str], words: str) -> None:
    status, body = await post(box, form(wav(), **fields))
    assert (status, body["error"]["code"]) == (400, "bad_request")
    assert words in body["error"]["message"]


async def test_a_file_may_be_wanted_without_punctuation(box: Box) -> None:
    box.service.use(replace(fake_models(), punctuation=FakePunctuation()))
    assert (await post(box, form(wav())))[1] == {"text": "3333。 77。"}
    assert (await post(box, form(wav(), punctuation="false")))[1] == {"text": "3333 77"}
    status, body = await post(box, form(wav(), punctuation="some"))
    assert (status, body["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "anything/at-all", ""])
async def test_every_model_name_is_taken(box: Box, model: str) -> None:
    assert (await post(box, form(wav(), model=model)))[0] == 200


async def test_a_prompt_that_the_model_can_not_use_is_said(box: Box) -> None:
    _, body = await post(box, form(wav(), prompt="FunASR, Paraformer"))
    remark = "hotwords are ignored: it is a fake"
    assert body == {"text": "3333 77", "remarks": [remark], "said": [{"text": remark}]}


async def test_one_model_is_told_and_an_unknown_one_is_404(box: Box) -> None:
    assert (await (await box.client.get("/v1/models/whisper-1")).json())["object"] == "model"
    answer = await box.client.get("/v1/models/gpt-9")
    assert answer.status == 404
    assert (await answer.json())["error"]["code"] == "unknown_model"


async def test_what_fails_before_the_first_event_has_its_own_status(box: Box) -> None:
    status, body = await post(box, form(b"a letter, no audio" * 99, stream="true"))
    assert (status, body["error"]["code"]) == (415, "not_audio")


async def test_what_fails_later_is_the_last_event(box: Box) -> None:
    box.service.use(fake_models(fail_on="77"))
    talk = np.concatenate([tone(3, 4), silence(6)] * 5 + [tone(7, 2), silence(5)])
    events = await streamed(box, form(wav(talk), stream="true"))
    assert events[-1]["error"]["code"] == "stream_failed"


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_client_that_leaves_frees_its_stream_child_and_file(box: Box, stream: str) -> None:
    gate = threading.Event()
    box.service.use(fake_models(gate=gate))
    before = len(nameless_files())
    leaving = asyncio.create_task(post(box, form(wav(LONG), stream=stream)))
    await until(lambda: box.service.sessions and psutil.Process().children())
    assert len(nameless_files()) == before + 1
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: not box.service.sessions and not psutil.Process().children())
    gate.set()
    await until(lambda: len(nameless_files()) == before)
    assert (await post(box, form(wav())))[0] == 200


async def test_a_stop_gives_up_a_file_and_says_so(box: Box) -> None:
    gate = threading.Event()
    box.service.use(fake_models(gate=gate))
    asking = asyncio.create_task(post(box, form(wav(LONG))))
    await until(lambda: box.service.sessions)
    stopping = asyncio.create_task(box.client.server.app.shutdown())
    status, body = await asking
    gate.set()
    await stopping
    assert (status, body["error"]["code"]) == (503, "not_ready")
    assert "send the file again" in body["error"]["message"]


@pytest.mark.parametrize("settings", [{"uploads": {"max_duration_s": 60}}])
async def test_a_file_that_states_too_long_audio_is_refused_at_once(box: Box) -> None:
    gate = threading.Event()
    box.service.use(fake_models(gate=gate))
    try:
        silent = np.concatenate([silence(600), tone(3, 3)])
        status, body = await asyncio.wait_for(post(box, form(wav(silent))), 30)
    finally:
        gate.set()
    assert (status, body["error"]["code"]) == (413, "too_long")


async def test_more_parts_than_a_form_needs_are_400(box: Box) -> None:
    data = aiohttp.FormData()
    for i in range(100):
        data.add_field(f"f{i}", "x", content_type="text/plain")
    data.add_field("file", wav(), filename="a.wav")
    status, body = await post(box, data)
    assert status == 400
    assert "64 parts" in body["error"]["message"]


async def test_a_body_that_stops_is_ended() -> None:
    with pytest.raises(web.HTTPRequestTimeout, match="Request Timeout"):
        await Pace(silent_s=0.05).next(asyncio.sleep(60))


def test_a_body_that_drips_is_ended_and_a_slow_one_is_not() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    for _ in range(100):  # an old mobile network
        now[0] += 1
        pace.count(SLOWEST_BYTES_S)
    for _ in range(29):  # what was fast before leaves time for a pause
        now[0] += 1
        pace.count(0)
    now[0] += 2
    with pytest.raises(web.HTTPRequestTimeout):
        pace.count(1)


def full_disk() -> IO[bytes]:
    if not os.path.exists("/dev/full"):
        pytest.skip("this machine has no /dev/full")
    return open("/dev/full", "wb")


async def test_a_full_disk_is_507(box: Box) -> None:
    async def take(request: web.Request) -> web.Response:
        with full_disk() as file:
            await receive_form(request, file)
        return web.Response()

    app = web.Application(middlewares=[errors_as_json])
    app[CONTEXT] = box.client.server.app[CONTEXT]
    app.router.add_post("/", take)
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/", data=form(wav(LONG)))
        assert answer.status == 507
        assert (await answer.json())["error"]["code"] == "no_space"
