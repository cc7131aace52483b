"""A mirror is asked politely, and followed only where it may lead."""

from __future__ import annotations

import socket

import pytest

from agent.errors import FetchError
from agent.web.tls import make_certificate
from tests.unit.store.mirror import (
    GRAPH,
    PUBLISHED,
    TOKENS,
    Fetcher,
    LyingMirror,
    redirect,
    sending,
    status,
)


@pytest.fixture
def mirror(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with LyingMirror(PUBLISHED).running() as running:
        yield running


@pytest.fixture
def get(mirror, tmp_path):
    return Fetcher(mirror, tmp_path / "fetched")


def test_a_busy_mirror_is_asked_again_when_it_says(get, mirror):
    mirror.script["tokens.json"] = [
        status(503),
        status(429, Retry_After="7"),
        status(503, Retry_After="86400"),
        status(500),
    ]
    get()
    assert get.waits == [1.0, 7.0, 60.0, 8.0]
    assert (get.target / "tokens.json").read_bytes() == TOKENS


def test_a_mirror_that_stays_busy_is_given_up(get, mirror):
    mirror.always["tokens.json"] = status(503)
    with pytest.raises(FetchError, match=r"answers 503; gave up after 3 tries"):
        get(tries=3)
    assert len(mirror.ranges("tokens.json")) == 3
    assert get.waits == [1.0, 2.0]


def test_nobody_at_the_address_is_given_up_with_the_reason(get):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(FetchError, match=r"Connection refused; gave up after 2 tries"):
            get(mirror=f"http://127.0.0.1:{port}/{{file}}", tries=2)


@pytest.mark.parametrize("code", [401, 403, 451])
def test_a_refusal_is_not_tried_again(get, mirror, code):
    mirror.always["tokens.json"] = status(code)
    with pytest.raises(FetchError, match=f"answers {code}; check the mirror and your access"):
        get()
    assert len(mirror.ranges("tokens.json")) == 1


def test_compressed_bytes_are_refused(get, mirror):
    mirror.always["tokens.json"] = sending(TOKENS, Content_Encoding="gzip")
    with pytest.raises(FetchError, match="compressed"):
        get()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(get, mirror, code):
    mirror.files["elsewhere/graph"] = GRAPH
    mirror.always["model_quant.onnx"] = redirect("/elsewhere/graph", code)
    get()
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_redirects_in_a_circle_end(get, mirror):
    mirror.always["tokens.json"] = redirect("/other")
    mirror.always["other"] = redirect("/tokens.json")
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        get()
    assert len(mirror.ranges("tokens.json") + mirror.ranges("other")) == 6


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1/x", "http://:80/x", ""]
)
def test_a_redirect_to_what_is_no_web_address_is_refused(get, mirror, location):
    mirror.always["tokens.json"] = redirect(location)
    with pytest.raises(FetchError, match="redirects to what is no web address"):
        get()


@pytest.fixture
def secure_mirror(tmp_path, monkeypatch):
    """A mirror with TLS whose certificate the client trusts."""
    certificate, key = make_certificate("localhost", ["127.0.0.1"])
    path = tmp_path / "mirror.pem"
    path.write_bytes(certificate + key)
    with LyingMirror({"model_quant.onnx": GRAPH, "tokens.json": TOKENS}).running(path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        yield running


def test_a_mirror_with_tls_serves(get, secure_mirror):
    get(mirror=secure_mirror.template)
    assert (get.target / "model_quant.onnx").read_bytes() == GRAPH


def test_a_redirect_from_https_to_http_is_refused(get, secure_mirror, mirror):
    secure_mirror.always["tokens.json"] = redirect(f"{mirror.url}/tokens.json")
    with pytest.raises(FetchError, match="redirects from https to http"):
        get(mirror=secure_mirror.template)
    assert mirror.requests == []


def test_an_untrusted_certificate_is_named_and_not_tried_again(get, secure_mirror, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(FetchError, match="its certificate is not trusted"):
        get(mirror=secure_mirror.template)
    assert get.waits == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("127.0.0.1:9/{file}", "starts with http"),
        ("//secret@127.0.0.1/{file}", "starts with http"),
        ("ftp://user:secret@127.0.0.1/{file}", "starts with http"),
        ("http:///{file}", "names a host"),
        ("http://127.0.0.1:port/{file}", "names a host"),
        ("http://user:secret@127.0.0.1/{name}", "needs the field {file}"),
        ("http://user:secret@127.0.0.1/{file}/{branch}", "unknown field {branch}"),
        ("http://127.0.0.1/{file}/{}", "unknown field {}"),
        ("http://127.0.0.1/{file.__class__}", "unknown field"),
        ("http://127.0.0.1/{file!r}", "stand alone"),
        ("http://127.0.0.1/{file:>9}", "stand alone"),
        ("http://secret@127.0.0.1/{file", "no template"),
    ],
)
def test_a_bad_template_is_a_clear_error_without_secrets(get, template, reason):
    with pytest.raises(FetchError) as caught:
        get(mirror=template)
    assert reason in caught.value.message
    assert "secret" not in caught.value.message
    assert not get.target.exists()


def test_credentials_go_to_the_mirror_only_and_are_never_shown(get, mirror):
    with LyingMirror({"model_quant.onnx": GRAPH}).running() as other:
        mirror.always["model_quant.onnx"] = redirect(f"{other.url}/model_quant.onnx?sig=secret")
        mirror.always["tokens.json"] = status(403)
        with pytest.raises(FetchError) as caught:
            get(mirror=mirror.template.replace("http://", "http://user:s%65cret@"))
        assert "Authorization" not in other.requests[0][1]
    assert mirror.requests[0][1]["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert "ecret" not in caught.value.message
    assert "user" not in caught.value.message


def test_the_query_of_a_redirect_is_not_shown(get, mirror):
    mirror.always["tokens.json"] = redirect("/gone?signature=secret")
    with pytest.raises(FetchError) as caught:
        get()
    assert "/gone:" in caught.value.message
    assert "secret" not in caught.value.message
