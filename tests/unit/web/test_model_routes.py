"""The REST side of the model store, over real sockets and folders."""

from __future__ import annotations

import asyncio
import gzip
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard

from agent.store.bundle import BundleSource, bundle_stream
from agent.store.trial import TrialResult
from tests.fakes import fake_models, silence, tone
from tests.model_loading.tiny_models import Files, manifest_bytes, write_model
from tests.unit.store.test_archive import archive, entry, whole
from tests.unit.web.conftest import Box

VAD: Files = {"model.onnx": b"a graph"}
ASR: Files = {"model.onnx": b"a graph", "tokens.json": b"[]"}
UNFIT = TrialResult(code="compatibility", level="compatibility", message="has no input speech")
DEAF = TrialResult(code="golden_mismatch", level="function", message="it finds no speech")
JSON = {"Content-Type": "application/json"}


def bundle(folder: Path, model_id: str = "lab", files: Files = ASR, **more: Any) -> bytes:
    """The bundle of one model."""
    write_model(folder, model_id, files, **more)
    with bundle_stream([BundleSource(model_id, folder / model_id)]) as stream:
        return stream.read()


async def ask(
    box: Box, method: str, path: str, data: Any = None, **more: Any
) -> tuple[int, dict[str, Any]]:
    async with box.client.request(method, path, data=data, **more) as answer:
        assert answer.content_type == "application/json"
        text = await answer.text()
        assert "Traceback" not in text
        body = json.loads(text)
        if answer.status >= 400:
            assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "level"}
        return answer.status, body


async def refused(box: Box, *arguments: Any, **more: Any) -> tuple[int, str, str]:
    """Status, code and message."""
    status, body = await ask(box, *arguments, **more)
    return status, body["error"]["code"], body["error"]["message"]


async def upload(box: Box, data: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    return await ask(box, "POST", "/api/v1/models", data, **more)


def kept(box: Box) -> list[str]:
    """Everything in the folder of installed models, hidden or not."""
    folder = box.state / "models"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
async def loaded(box: Box) -> Box:
    """The box with its two models in use."""
    write_model(box.shipped, "ears", VAD)
    write_model(box.shipped, "slow", ASR)
    await box.keeper.load()
    return box


async def in_pieces(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


def as_form(data: bytes, name: str = "file") -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("note", "from the lab")
    form.add_field(name, data, filename="lab.tar", content_type="application/x-tar")
    return form


WAYS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "raw": lambda data: {"data": data},
    "chunked": lambda data: {"data": in_pieces(data)},
    "multipart": lambda data: {"data": as_form(data)},
    "zstd": lambda data: {"data": zstandard.compress(data)},
    "compressed for the way": lambda data: {
        "data": gzip.compress(data),
        "headers": {"Content-Encoding": "gzip"},
    },
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_bundle_is_installed_however_it_comes(
    loaded: Box, tmp_path: Path, way: str
) -> None:
    status, body = await upload(loaded, **WAYS[way](bundle(tmp_path / "made")))
    (name,) = kept(loaded)
    assert status == 201
    assert body == {
        "installed": [{"id": "lab", "ref": name, "task": "asr_offline", "already": False}]
    }
    assert (loaded.state / "models" / name / "model.onnx").read_bytes() == b"a graph"
    rows = (await ask(loaded, "GET", "/api/v1/models"))[1]["models"]
    assert next(row["ref"] for row in rows) == name
    assert loaded.serving[-1].loaded.ids == {"vad": "ears", "asr_offline": "slow"}


async def test_every_model_of_the_box_is_listed_with_what_serves_each_role(loaded: Box) -> None:
    loaded_names = loaded.serving[-1].loaded.roles
    status, body = await ask(loaded, "GET", "/api/v1/models")
    assert status == 200
    assert body["roles"] == loaded.status.models()
    ears, slow = body["models"]
    assert (ears["ref"], slow["ref"]) == (
        str(loaded_names["vad"].ref),
        str(loaded_names["asr_offline"].ref),
    )
    expected = {
        "id": "slow",
        "family": "paraformer",
        "task": "asr_offline",
        "license": "none",
        "installed": False,
        "pinned": False,
        "state": "present",
        "serves": "asr_offline",
        "chosen_for": None,
        "previous_of": None,
        "memory_mb": 1,
    }
    assert {key: slow[key] for key in expected} == expected
    assert slow["proof"]["candidates"][0]["passed"]


async def test_a_model_that_can_not_be_read_is_listed_with_its_reason(loaded: Box) -> None:
    (loaded.shipped / "ears" / "manifest.yaml").write_text("schema: 7")
    row = (await ask(loaded, "GET", "/api/v1/models"))[1]["models"][0]
    assert (row["ref"], row["state"], row["level"]) == ("ears", "refused", "integrity")
    assert "schema is 7" in row["reason"]


async def test_the_list_is_there_while_the_models_are_being_loaded(box: Box) -> None:
    write_model(box.shipped, "ears", VAD)
    (row,) = (await ask(box, "GET", "/api/v1/models"))[1]["models"]
    assert (row["id"], row["serves"], row["proof"]) == ("ears", None, None)


def flipped(folder: Path) -> bytes:
    """A bundle whose weights are not those of its manifest."""
    manifest = manifest_bytes("lab", ASR)
    others = [entry(f"lab/{name}", data[::-1]) for name, data in ASR.items()]
    return whole(entry("lab/manifest.yaml", manifest), *others)


@pytest.mark.parametrize(
    ("make", "verdict", "level", "code", "says"),
    [
        (flipped, None, "integrity", "integrity", "lab/model.onnx: sha256 is"),
        (bundle, UNFIT, "compatibility", "compatibility", "has no input speech"),
        (bundle, DEAF, "function", "golden_mismatch", "it finds no speech"),
    ],
)
async def test_a_model_refused_at_any_level_is_422_and_not_kept(
    loaded: Box,
    tmp_path: Path,
    make: Callable[[Path], bytes],
    verdict: TrialResult | None,
    level: str,
    code: str,
    says: str,
) -> None:
    if verdict is not None:
        loaded.trials.verdict = lambda asked: verdict
    status, body = await upload(loaded, make(tmp_path / "made"))
    error = body["error"]
    assert (status, error["code"], error["level"]) == (422, code, level)
    assert says in error["message"]
    assert kept(loaded) == []


async def test_what_is_installed_already_is_409(loaded: Box, tmp_path: Path) -> None:
    data = bundle(tmp_path / "made")
    assert (await upload(loaded, data))[0] == 201
    status, code, message = await refused(loaded, "POST", "/api/v1/models", data)
    assert (status, code) == (409, "already_installed")
    assert "installed already, and sound" in message
    assert len(kept(loaded)) == 1


async def test_an_id_of_the_agents_own_models_is_refused(loaded: Box, tmp_path: Path) -> None:
    data = bundle(tmp_path / "made", "builtin-vad")
    status, _, message = await refused(loaded, "POST", "/api/v1/models", data)
    assert status == 400
    assert "the agent's own" in message
    assert kept(loaded) == []


def link() -> bytes:
    return whole(
        entry("lab/manifest.yaml", manifest_bytes("lab", ASR)),
        entry("lab/model.onnx", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    )


BAD_BODIES: dict[str, bytes] = {
    "a link": link(),
    "a path that leaves the folder": whole(entry("../../etc/cron.d/x", b"* * * * *")),
    "an absolute path": whole(entry("/etc/passwd", b"root::0:0")),
    "no sums": archive(entry("lab/manifest.yaml", manifest_bytes("lab", ASR))),
    "nothing": b"",
    "zeros": bytes(2048),
    "text": b"this is no archive" * 100,
    "a gzip file": gzip.compress(whole(entry("lab/manifest.yaml", b"x"))),
    "damaged zstd": zstandard.compress(bytes(9000))[:20] + b"\xff" * 100,
}


@pytest.mark.parametrize("what", BAD_BODIES)
async def test_a_body_that_is_no_sound_archive_is_400_and_leaves_nothing(
    loaded: Box, tmp_path: Path, what: str
) -> None:
    status, code, message = await refused(loaded, "POST", "/api/v1/models", BAD_BODIES[what])
    assert (status, code) == (400, "bad_bundle")
    assert ";" in message
    assert kept(loaded) == []
    assert (await upload(loaded, bundle(tmp_path / "made")))[0] == 201


async def test_a_body_that_is_not_as_its_content_encoding_says_is_400(loaded: Box) -> None:
    status, _, _ = await refused(
        loaded,
        "POST",
        "/api/v1/models",
        b"this was never compressed" * 100,
        headers={"Content-Encoding": "gzip"},
    )
    assert status == 400
    assert kept(loaded) == []


def multipart(*lines: str, boundary: str = "cut") -> dict[str, Any]:
    body = "\r\n".join(lines).encode()
    return {
        "data": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


FORMS: dict[str, dict[str, Any]] = {
    "no part named file": {"data": as_form(b"x", name="bundle")},
    "no boundary": {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    "not multipart at all": multipart("garbage", "garbage"),
    "another boundary": multipart("--other", "", "x", "--other--"),
    "a header that is none": multipart("--cut", "no header", "", "x", "--cut--"),
    "no end": multipart("--cut", 'Content-Disposition: form-data; name="file"', "", "x"),
    "headers without end": multipart("--cut", "X-Long: " + "x" * 100_000, "", "x", "--cut--"),
}


@pytest.mark.parametrize("what", FORMS)
async def test_a_malformed_form_is_400_and_the_keeper_is_free_again(
    loaded: Box, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, _ = await refused(loaded, "POST", "/api/v1/models", **FORMS[what])
    assert status == 400
    assert "Traceback" not in caplog.text
    assert kept(loaded) == []
    assert (await upload(loaded, bundle(tmp_path / "made")))[0] == 201


@pytest.mark.parametrize("settings", [{"models": {"max_bundle_mb": 1}}])
@pytest.mark.parametrize("way", ["raw", "chunked", "multipart", "zstd"])
async def test_a_bundle_that_is_too_large_is_413(loaded: Box, tmp_path: Path, way: str) -> None:
    data = bundle(tmp_path / "made", files={**ASR, "model.onnx": bytes(3 << 20)})
    status, code, message = await refused(loaded, "POST", "/api/v1/models", **WAYS[way](data))
    assert (status, code) == (413, "too_large")
    assert "models.max_bundle_mb" in message
    assert kept(loaded) == []


async def raw_request(box: Box, head: str, body: bytes) -> asyncio.StreamWriter:
    """An upload that was begun on a bare socket."""
    _, writer = await asyncio.open_connection(box.client.host, box.client.port)
    begin = "POST /api/v1/models HTTP/1.1\r\nHost: localhost"
    writer.write(f"{begin}\r\n{head}\r\n\r\n".encode() + body)
    await writer.drain()
    return writer


async def until(there: Callable[[], bool]) -> None:
    for _ in range(500):
        if there():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("way", ["raw", "chunked", "multipart"])
async def test_a_client_that_goes_away_leaves_nothing_behind(
    loaded: Box, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    big = {**ASR, "model.onnx": bytes(1 << 20)}
    data = bundle(tmp_path / "made", files=big)
    half = data[: len(data) // 2]
    if way == "chunked":
        head, body = "Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(half), half)
    elif way == "multipart":
        head = "Content-Type: multipart/form-data; boundary=cut\r\nTransfer-Encoding: chunked"
        part = b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + half
        body = b"%x\r\n%s\r\n" % (len(part), part)
    else:
        head, body = f"Content-Length: {len(data)}", half
    writer = await raw_request(loaded, head, body)
    await until(lambda: any(name.startswith(".staging") for name in kept(loaded)))
    writer.close()
    await until(lambda: kept(loaded) == [])
    await until(lambda: not loaded.keeper.busy)
    assert (await upload(loaded, data))[0] == 201
    assert "Traceback" not in caplog.text


async def test_a_second_upload_at_once_is_409_and_says_what_is_going_on(
    loaded: Box, tmp_path: Path
) -> None:
    data = bundle(tmp_path / "made")
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:1024]
        await go_on.wait()
        yield data[1024:]

    first = asyncio.create_task(upload(loaded, slowly()))
    await until(lambda: bool(loaded.keeper.busy))
    status, code, message = await refused(loaded, "POST", "/api/v1/models", data)
    assert (status, code) == (409, "store_busy")
    assert "the agent is installing a bundle; try again" in message
    for method, path in (("POST", "/api/v1/models/vad"), ("POST", "/api/v1/check")):
        found = await refused(loaded, method, path, b'{"id": "ears"}')
        assert found[:2] == (409, "store_busy")
    go_on.set()
    assert (await first)[0] == 201


async def test_a_refusal_is_told_while_the_client_still_has_much_to_send(loaded: Box) -> None:
    """The answer does not wait for the rest of a body that nobody wants."""
    reader, writer = await asyncio.open_connection(loaded.client.host, loaded.client.port)
    head = b"POST /api/v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    writer.write(head + b"this is no archive" * 2000)
    line = await asyncio.wait_for(reader.readline(), 5)
    assert b"400" in line
    writer.close()


@pytest.mark.parametrize("settings", [{"stream": {"idle_s": 0.3}}])
async def test_an_upload_that_stalls_is_given_up(loaded: Box, tmp_path: Path) -> None:
    data = bundle(tmp_path / "made")
    reader, writer = await asyncio.open_connection(loaded.client.host, loaded.client.port)
    head = f"POST /api/v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[:1024])
    line = await asyncio.wait_for(reader.readline(), 5)
    assert b"408" in line
    await until(lambda: not loaded.keeper.busy)
    assert kept(loaded) == []
    writer.close()


async def test_a_stop_does_not_wait_for_an_upload_that_stalls(loaded: Box, tmp_path: Path) -> None:
    data = bundle(tmp_path / "made")
    head = f"POST /api/v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(loaded.client.host, loaded.client.port)
    writer.write(head.encode() + data[:1024])
    await until(lambda: bool(loaded.keeper.busy))
    stopping = asyncio.create_task(loaded.client.close())
    assert b"503" in await asyncio.wait_for(reader.readline(), 5)
    assert b"the agent is stopping" in await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await asyncio.wait_for(stopping, 5)
    assert kept(loaded) == []


async def test_the_page_is_told_how_far_an_upload_is(loaded: Box, tmp_path: Path) -> None:
    data = bundle(tmp_path / "made", files={**ASR, "model.onnx": bytes(20 << 20)})
    async with loaded.client.ws_connect("/api/v1/events") as events:
        assert (await events.receive_json(timeout=5))["type"] == "snapshot"
        assert (await upload(loaded, data))[0] == 201
        told = [await events.receive_json(timeout=5) for _ in range(2)]
    assert [event["type"] for event in told] == ["install_progress"] * 2
    assert {event["total"] for event in told} == {len(data)}
    assert 0 < told[0]["received"] < told[1]["received"] <= len(data)


async def test_a_role_is_switched_and_rolled_back(loaded: Box, tmp_path: Path) -> None:
    await upload(loaded, bundle(tmp_path / "made"))
    status, body = await ask(loaded, "POST", "/api/v1/models/asr_offline", b'{"id": "lab"}')
    assert status == 200
    expected = {"role": "asr_offline", "id": "lab", "ref": kept(loaded)[0], "variant": "fp32"}
    assert {key: body[key] for key in expected} == expected
    assert (body["provider"], body["load_time_s"] >= 0) == ("cpu", True)
    assert loaded.serving[-1].loaded.ids["asr_offline"] == "lab"
    status, body = await ask(loaded, "POST", "/api/v1/models/asr_offline/rollback")
    assert (status, body["id"]) == (200, "slow")
    status, body = await ask(loaded, "POST", "/api/v1/models/asr_offline/rollback")
    assert (status, body["id"]) == (200, "lab")


async def test_punctuation_can_be_without_a_model(loaded: Box) -> None:
    status, body = await ask(loaded, "POST", "/api/v1/models/punctuation", b'{"id": "none"}')
    assert status == 200
    assert (body["id"], body["variant"], body["provider"]) == ("none", None, None)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/v1/models/ears", b'{"id": "slow"}', 404, "unknown_model"),
        ("/api/v1/models/ears/rollback", b"", 404, "unknown_model"),
        ("/api/v1/models/vad", b'{"id": "gone"}', 404, "unknown_model"),
        ("/api/v1/models/vad", b'{"id": "../../etc"}', 404, "unknown_model"),
        ("/api/v1/models/vad", b'{"id": "none"}', 404, "unknown_model"),
        ("/api/v1/models/vad", b'{"id": "slow"}', 422, "compatibility"),
        ("/api/v1/models/vad/rollback", b"", 404, "unknown_model"),
        ("/api/v1/models/vad", b"", 400, "bad_request"),
        ("/api/v1/models/vad", b"{}", 400, "bad_request"),
        ("/api/v1/models/vad", b'{"id": ""}', 400, "bad_request"),
        ("/api/v1/models/vad", b'{"id": 7}', 400, "bad_request"),
        ("/api/v1/models/vad", b'{"id": null}', 400, "bad_request"),
        ("/api/v1/models/vad", b'{"id": "ears"', 400, "bad_request"),
        ("/api/v1/models/vad", b"[]", 400, "bad_request"),
        ("/api/v1/models/vad", b"\xff\xfe", 400, "bad_request"),
        ("/api/v1/models/vad", b"[" * 4000, 400, "bad_request"),
        ("/api/v1/models/vad", b'{"id": "%s"}' % (b"x" * 5000), 400, "bad_request"),
        ("/api/v1/check", b'{"id": ["ears"]}', 400, "bad_request"),
        ("/api/v1/check", b'{"id": "gone"}', 404, "unknown_model"),
    ],
)
async def test_a_bad_request_is_told_by_its_status(
    loaded: Box,
    path: str,
    body: bytes,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = await refused(loaded, "POST", path, body, headers=JSON)
    assert found[:2] == (status, code)
    assert "Traceback" not in caplog.text
    assert loaded.serving[-1].loaded.ids == {"vad": "ears", "asr_offline": "slow"}
    assert not (loaded.state / "roles.yaml").exists()


async def test_a_model_that_is_refused_says_why_and_the_old_one_serves(
    loaded: Box, tmp_path: Path
) -> None:
    write_model(loaded.shipped, "deaf", VAD)
    loaded.trials.verdict = lambda asked: DEAF
    status, code, message = await refused(loaded, "POST", "/api/v1/models/vad", b'{"id": "deaf"}')
    assert (status, code) == (422, "golden_mismatch")
    assert "it finds no speech" in message
    assert "vad keeps its model" in message
    assert len(loaded.serving) == 1


async def test_before_the_models_are_loaded_a_switch_is_409(box: Box) -> None:
    found = await refused(box, "POST", "/api/v1/models/vad", b'{"id": "ears"}')
    assert found[:2] == (409, "store_busy")


async def test_a_body_that_comes_in_pieces_is_read_to_its_end(loaded: Box) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"id": '
        await asyncio.sleep(0.05)
        yield b'"ears"}'

    status, body = await ask(loaded, "POST", "/api/v1/models/vad", slowly())
    assert (status, body["id"]) == (200, "ears")


async def test_a_stream_that_is_open_finishes_on_the_model_it_began_with(loaded: Box) -> None:
    write_model(loaded.shipped, "wild", ASR)
    stream = await loaded.client.ws_connect("/api/v1/stream")
    await stream.send_json({"type": "start", "sample_rate": 16000, "mode": "offline"})
    assert (await stream.receive_json(timeout=5))["type"] == "started"
    loaded.families["paraformer"] = fake_models(fail_on="3333").offline
    await ask(loaded, "POST", "/api/v1/models/asr_offline", b'{"id": "wild"}')
    assert loaded.serving[-1].loaded.ids["asr_offline"] == "wild"
    audio = b"".join(part.tobytes() for part in (silence(3), tone(3, 4), silence(6)))
    await stream.send_bytes(bytes(8) + audio)
    await stream.send_json({"type": "stop"})
    finals = []
    while (event := await stream.receive_json(timeout=5))["type"] != "stopped":
        finals += [event["text"]] if event["type"] == "final" else []
    assert finals == ["3333"]
    await stream.close()


async def test_an_unused_model_is_removed(loaded: Box, tmp_path: Path) -> None:
    await upload(loaded, bundle(tmp_path / "made"))
    (name,) = kept(loaded)
    assert await ask(loaded, "DELETE", f"/api/v1/models/{name}") == (200, {"removed": name})
    assert kept(loaded) == []
    assert (await refused(loaded, "DELETE", f"/api/v1/models/{name}"))[0] == 404


async def test_a_model_in_use_is_not_removed(loaded: Box, tmp_path: Path) -> None:
    await upload(loaded, bundle(tmp_path / "made"))
    await ask(loaded, "POST", "/api/v1/models/asr_offline", b'{"id": "lab"}')
    status, code, message = await refused(loaded, "DELETE", "/api/v1/models/lab")
    assert (status, code) == (409, "in_use")
    assert "serves asr_offline" in message
    assert len(kept(loaded)) == 1


@pytest.mark.parametrize("name", ["ears", "gone", "..%2F..%2Fetc", "A b", "lab@zzz"])
async def test_what_is_not_installed_can_not_be_removed(loaded: Box, name: str) -> None:
    found = await refused(loaded, "DELETE", f"/api/v1/models/{name}")
    assert found[0] == 404
    assert (loaded.shipped / "ears").is_dir()


async def test_models_are_checked_on_request(loaded: Box) -> None:
    status, body = await ask(loaded, "POST", "/api/v1/check")
    assert status == 200
    assert [(row["role"], row["serves"], row["problem"]) for row in body["models"]] == [
        ("vad", True, ""),
        ("asr_offline", True, ""),
    ]
    loaded.trials.verdict = lambda asked: DEAF
    status, body = await ask(loaded, "POST", "/api/v1/check", b'{"id": "ears"}')
    (row,) = body["models"]
    assert status == 200
    assert (row["serves"], row["level"], row["code"]) == (False, "function", "golden_mismatch")
    assert "it finds no speech" in row["problem"]


UNSAFE = [
    ("POST", "/api/v1/models"),
    ("POST", "/api/v1/models/vad"),
    ("POST", "/api/v1/models/vad/rollback"),
    ("DELETE", "/api/v1/models/ears"),
    ("POST", "/api/v1/check"),
]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_foreign_page_can_change_nothing(
    loaded: Box, method: str, path: str, origin: str
) -> None:
    asked = len(loaded.trials.asked)
    found = await refused(loaded, method, path, b'{"id": "ears"}', headers={"Origin": origin})
    assert found[0] == 403
    assert len(loaded.trials.asked) == asked
    assert kept(loaded) == []


async def test_the_boxs_own_page_may_install(loaded: Box, tmp_path: Path) -> None:
    origin = f"http://{loaded.client.host}:{loaded.client.port}"
    status, _ = await upload(loaded, bundle(tmp_path / "made"), headers={"Origin": origin})
    assert status == 201


async def test_a_bug_shows_nothing_of_its_inside(loaded: Box) -> None:
    def fail(asked: object) -> TrialResult:
        raise RuntimeError("secret inside")

    write_model(loaded.shipped, "new", VAD)
    loaded.trials.verdict = fail
    async with loaded.client.post("/api/v1/check", data=b'{"id": "new"}') as answer:
        text = await answer.text()
    assert answer.status == 500
    assert "secret" not in text
    assert "its log says why" in text
    loaded.trials.verdict = lambda asked: DEAF
    assert (await ask(loaded, "POST", "/api/v1/check"))[0] == 200
