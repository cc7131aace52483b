"""Another box: servers that are silent, wrong, slow or expired, each on a real socket."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.doctor.clip import Clip, load_clip, says_the_same
from agent.doctor.remote import Limits, RemoteCheck, Target, parse_target
from agent.doctor.report import Check
from agent.web.tls import NOT_BEFORE, VALID_DAYS, make_certificate
from tests.unit.doctor.servers import GOOD, Converse, box, final, messages, tcp

CLIP = Clip(pcm=bytes(32_000), duration_s=1.0, text="打开 客厅的灯")
SHORT = Limits(connect_s=1, http_s=0.5, clip_s=0.5)


def look(target: Target, **more: Any) -> dict[str, Check]:
    lines: list[Check] = []
    settings = {"clip": CLIP, "limits": SHORT, **more}
    RemoteCheck(target, **settings).run(lines.append)
    return {check.name: check for check in lines}


def plain(port: int) -> Target:
    return Target("127.0.0.1", port, False)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("box.local", Target("box.local", 80, False)),
        ("box.local:8080", Target("box.local", 8080, False)),
        ("https://box.local/", Target("box.local", 443, True)),
        ("wss://192.0.2.7:10095", Target("192.0.2.7", 10095, True)),
        ("http://[fd00::1]:8080", Target("fd00::1", 8080, False)),
    ],
)
def test_urls_are_read(url: str, target: Target) -> None:
    assert parse_target(url) == target
    assert parse_target(target.base) == target


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "names no host"),
        ("http://", "names no host"),
        ("ftp://box", "ftp:// is not http"),
        ("http://box:99999", "Port"),
        ("http://box:x", "Port"),
    ],
)
def test_what_is_no_url_of_a_box_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_target(url)


def test_a_healthy_box_passes_every_step() -> None:
    with box(converse=final("打开客厅的灯。")) as port:
        found = look(plain(port))
    assert list(found) == ["name", "tcp", "livez", "readyz", "health", "websocket", "clip"]
    assert {check.status.value for check in found.values()} == {"ok"}
    assert "1.0 s of audio in" in found["clip"].seen


def test_the_token_is_sent_when_there_is_one() -> None:
    seen: list[str] = []
    with box(converse=final("x"), seen=seen) as port:
        look(plain(port), token="secret")
        assert set(seen) == {"Bearer secret"}
        assert len(seen) == 4
        seen.clear()
        look(plain(port))
        assert set(seen) == {""}


@pytest.mark.parametrize(
    ("converse", "status", "words"),
    [
        (final("关灯"), "warning", "'关灯' instead of '打开 客厅的灯'"),
        (final(""), "failure", "nothing was recognised"),
        (final("", error="no usable model"), "failure", "no usable model"),
        (messages(), "failure", "no end of it within 0.5 s"),
        (
            messages({"mode": "2pass-offline", "text": "打开客厅的灯", "is_final": False}),
            "ok",
            "no end of it",
        ),
        (
            messages({"mode": 7}, {"text": [1], "mode": "x-offline", "is_final": 1}),
            "warning",
            "[1]",
        ),
    ],
)
def test_what_comes_back_for_the_clip_is_judged(
    converse: Converse, status: str, words: str
) -> None:
    with box(converse=converse) as port:
        check = look(plain(port))["clip"]
    assert check.status.value == status
    assert words in check.seen


def test_a_socket_that_is_closed_says_why() -> None:
    async def busy(socket: web.WebSocketResponse) -> None:
        await socket.close(code=1013, message=b"full: 100 streams")

    with box(converse=busy) as port:
        check = look(plain(port))["clip"]
    assert check.status.value == "failure"
    assert "1013: full: 100 streams" in check.seen


def test_a_box_that_reads_nothing_does_not_hold_the_check_up() -> None:
    async def deaf(socket: web.WebSocketResponse) -> None:
        await asyncio.sleep(30)

    loud = Clip(pcm=bytes(20_000_000), duration_s=600, text="x")
    started = time.monotonic()
    with box(converse=deaf) as port:
        check = look(plain(port), clip=loud)["clip"]
        assert check.status.value == "failure"
        assert time.monotonic() - started < 10


def test_a_refused_upgrade_is_told() -> None:
    with box() as port:
        found = look(plain(port))
    assert found["websocket"].status.value == "failure"
    assert "404" in found["websocket"].seen
    assert "clip" not in found


def test_a_machine_without_the_clip_says_so() -> None:
    with box(converse=final("x")) as port:
        check = look(plain(port), clip=None)["clip"]
    assert (check.status.value, "not tried" in check.seen) == ("warning", True)


@pytest.mark.parametrize(
    ("answers", "line", "status", "words"),
    [
        ({}, "livez", "failure", "not a funasr-agent"),
        ({"/livez": (503, "not live; see /health")}, "livez", "failure", "not live"),
        ({"/livez": (200, ""), "/readyz": (503, "")}, "readyz", "failure", "can't transcribe now"),
        ({**GOOD, "/health": (401, "")}, "health", "warning", "needs the token"),
        ({**GOOD, "/health": (200, "<html>")}, "health", "warning", "without a report"),
        ({**GOOD, "/health": (200, "[" * 100_000)}, "health", "warning", "without a report"),
        ({**GOOD, "/livez": (301, "")}, "livez", "failure", "answers 301"),
        ({**GOOD, "/readyz": (0, "")}, "health", "failure", "gives no answer in 0.5 s"),
    ],
)
def test_what_a_box_says_of_itself_is_judged(
    answers: dict[str, tuple[int, str]], line: str, status: str, words: str
) -> None:
    with box(answers, final("打开客厅的灯")) as port:
        check = look(plain(port))[line]
    assert check.status.value == status
    assert words in check.seen
    assert check.advice


@pytest.mark.parametrize(("word", "status"), [("degraded", "warning"), ("failing", "failure")])
def test_the_reasons_of_a_sick_box_are_shown(word: str, status: str) -> None:
    checks = [
        {"name": "canary", "status": "ok", "reason": "sings"},
        {"name": "model_vad", "status": word, "reason": "refused"},
        "nonsense",
    ]
    body = json.dumps({"status": word, "checks": checks})
    with box({**GOOD, "/health": (503, body)}, final("打开客厅的灯")) as port:
        check = look(plain(port))["health"]
    assert check.status.value == status
    assert check.seen == f"{word}; model_vad: refused"


def test_a_silent_server_is_a_failure_in_time() -> None:
    started = time.monotonic()
    with tcp() as port:
        found = look(plain(port))
        secure = look(Target("127.0.0.1", port, True))
    assert found["livez"].status.value == "failure"
    assert "gives no answer" in found["livez"].seen
    assert list(secure) == ["name", "tcp", "certificate"]
    assert "no TLS handshake" in secure["certificate"].seen
    assert time.monotonic() - started < 10


def test_a_program_that_speaks_something_else_is_told() -> None:
    with tcp(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert "does not speak HTTP" in look(plain(port))["livez"].seen
        assert "fails" in look(Target("127.0.0.1", port, True))["certificate"].seen


def test_a_name_that_does_not_resolve_ends_the_check() -> None:
    found = look(Target("nobody.invalid", 80, False), find=lambda name: [])
    assert list(found) == ["name"]
    assert found["name"].status.value == "failure"


def test_every_address_of_a_name_is_tried() -> None:
    with box(converse=final("打开客厅的灯")) as port:
        found = look(Target("box.test", port, False), find=lambda name: ["127.0.0.99", "127.0.0.1"])
        assert found["clip"].status.value == "ok"
    closed = look(Target("box.test", port, False), find=lambda name: ["127.0.0.1"])
    assert (closed["tcp"].status.value, "refused" in closed["tcp"].seen) == ("failure", True)


# TLS.


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate for `box`, box.local and 127.0.0.1."""
    cert, key = make_certificate("box", ["127.0.0.1"])
    (tmp_path / "cert.pem").write_bytes(cert)
    (tmp_path / "key.pem").write_bytes(key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return made


def on_day(days: int) -> float:
    return (NOT_BEFORE + datetime.timedelta(days=days)).timestamp()


@pytest.mark.parametrize(
    ("host", "day", "status", "words"),
    [
        ("box.local", 30, "warning", ["self-signed", "SHA-256 ", "for box, box.local"]),
        ("127.0.0.1", 30, "warning", ["self-signed"]),
        ("kitchen", 30, "warning", ["not for kitchen", "self-signed"]),
        ("box", VALID_DAYS + 1, "failure", ["it has expired"]),
        ("box", VALID_DAYS - 5, "warning", ["expires in 5 days"]),
        ("box", -1, "failure", ["not valid yet"]),
    ],
)
def test_the_certificate_of_a_box_is_judged(
    context: ssl.SSLContext, host: str, day: int, status: str, words: list[str]
) -> None:
    with box(converse=final("打开客厅的灯"), context=context) as port:
        found = look(
            Target(host, port, True), now=lambda: on_day(day), find=lambda name: ["127.0.0.1"]
        )
    assert found["certificate"].status.value == status
    assert all(word in found["certificate"].seen for word in words)
    assert found["clip"].status.value == "ok"


def test_a_certificate_for_the_right_name_is_not_told_as_wrong(context: ssl.SSLContext) -> None:
    with box(context=context) as port:
        check = look(Target("127.0.0.1", port, True), now=lambda: on_day(30))["certificate"]
    assert "not for" not in check.seen


# The clip.


def test_the_clip_of_the_built_in_models_is_there(root: Path) -> None:
    clip = load_clip(root / "models")
    assert clip.text == "打开客厅的灯"
    assert 1 < clip.duration_s < 10
    assert len(clip.pcm) == round(clip.duration_s * 32_000)


def test_texts_are_compared_by_their_letters() -> None:
    assert says_the_same("Turn on, the LIGHT.", "turn on the light")
    assert says_the_same("打开 客厅的灯。", "打开客厅的灯")
    assert not says_the_same("打开客厅的", "打开客厅的灯")
