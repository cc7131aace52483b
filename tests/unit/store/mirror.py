"""A mirror on 127.0.0.1 that serves files, and lies in every way that a test asks for."""

from __future__ import annotations

import hashlib
import random
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agent.store.disk import Disk
from agent.store.fetch import fetch
from agent.store.known import KnownFile, KnownHash, KnownModel
from agent.store.manifest import Requirements, Variant

Behaviour = Callable[["Handler", bytes], None]
"""Answers one request; is given the true content."""

ETAG = '"one"'
GRAPH = random.Random(1).randbytes(3_000_000)
TOKENS = b'["<blank>", "a"]'
CARD = b"# a model"
PUBLISHED = {"model_quant.onnx": GRAPH, "tokens.json": TOKENS, "README.md": CARD}
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"


def published_as(data: bytes, *, sized: bool = True, revision: str = "") -> KnownHash:
    """How a list of published models states a file with this content."""
    return KnownHash(hashlib.sha256(data).hexdigest(), len(data) if sized else None, revision)


MODEL = KnownModel(
    id="a-model",
    family="paraformer",
    task="asr_offline",
    languages=("zh",),
    license="none",
    source={"name": "some/model", "revision": "master"},
    sample_rate=16000,
    variants=(Variant("int8", "cpu", {"model": "model_quant.onnx"}),),
    requires=Requirements(),
    files={
        "model_quant.onnx": KnownFile((published_as(GRAPH),)),
        "tokens.json": KnownFile((published_as(TOKENS),)),
        "README.md": KnownFile(optional=True),
    },
)


class Fetcher:
    """Fetches from a mirror into `target` without really waiting between tries."""

    def __init__(self, mirror: LyingMirror, target: Path) -> None:
        self.mirror = mirror
        self.target = target
        self.waits: list[float] = []

    def __call__(self, model: KnownModel = MODEL, **more: Any) -> None:
        defaults = {"mirror": self.mirror.template, "disk": Disk(), "timeout_s": 5.0}
        fetch(model, self.target, sleep=self.waits.append, **{**defaults, **more})


class LyingMirror:
    """Serves `files` (path -> content); `script` holds behaviours for the next requests."""

    def __init__(self, files: Mapping[str, bytes], *, etag: str = ETAG) -> None:
        self.files = dict(files)
        self.etag = etag
        self.script: dict[str, list[Behaviour]] = {}
        self.always: dict[str, Behaviour] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.url = ""

    @property
    def template(self) -> str:
        return self.url + "/{file}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range of each request for `path`."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]

    @contextmanager
    def running(self, certificate: Path | None = None) -> Iterator[LyingMirror]:
        server = _Server(("127.0.0.1", 0), Handler)
        server.mirror = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            server.server_close()
            thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    mirror: LyingMirror

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up on a lie is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        mirror = self.mirror = self.server.mirror
        path = self.path.lstrip("/")
        mirror.requests.append((path, dict(self.headers)))
        content = mirror.files.get(path)
        if script := mirror.script.get(path):
            script.pop(0)(self, content or b"")
        elif path in mirror.always:
            mirror.always[path](self, content or b"")
        elif content is None:
            status(404)(self, b"")
        else:
            serve(self, content)

    def head(self, code: int, length: int | None, **headers: str) -> None:
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if length is None or code >= 300:
            self.close_connection = True
            self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests read `requests` instead."""


def serve(handler: Handler, content: bytes) -> None:
    """Honest, with ranges."""
    start = offset_of(handler, content)
    if start is None:
        handler.head(200, len(content), ETag=handler.mirror.etag)
        handler.wfile.write(content)
    elif start >= len(content):
        handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
    else:
        partial(handler, content, start)
        handler.wfile.write(content[start:])


def partial(handler: Handler, content: bytes, start: int) -> None:
    told = f"bytes {start}-{len(content) - 1}/{len(content)}"
    etag = handler.mirror.etag
    handler.head(206, len(content) - start, Content_Range=told, ETag=etag)


def offset_of(handler: Handler, content: bytes) -> int | None:
    """Where the asked range starts; None when the whole file is to be sent."""
    asked = handler.headers.get("Range")
    unchanged = handler.headers.get("If-Range", handler.mirror.etag) == handler.mirror.etag
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked and unchanged else None


def cut_after(count: int) -> Behaviour:
    """Announces all that is asked for, sends `count` bytes of it, closes."""

    def act(handler: Handler, content: bytes) -> None:
        start = offset_of(handler, content)
        if start is None:
            handler.head(200, len(content), ETag=handler.mirror.etag)
        else:
            partial(handler, content, start)
        handler.wfile.write(content[start or 0 :][:count])
        handler.close_connection = True

    return act


def always_cut_after(count: int) -> Behaviour:
    """As `cut_after` of a mirror that knows no ranges: each try brings the same bytes."""

    def act(handler: Handler, content: bytes) -> None:
        handler.head(200, len(content))
        handler.wfile.write(content[:count])
        handler.close_connection = True

    return act


def stall_after(count: int) -> Behaviour:
    """Sends `count` bytes, then nothing, with the connection open."""

    def act(handler: Handler, content: bytes) -> None:
        handler.head(200, len(content), ETag=handler.mirror.etag)
        handler.wfile.write(content[:count])
        handler.wfile.flush()
        handler.mirror.closing.wait(20)
        handler.close_connection = True

    return act


def drip(handler: Handler, content: bytes) -> None:
    """A byte now and then, each of them well within any time-out."""
    handler.head(200, len(content), ETag=handler.mirror.etag)
    with suppress(OSError):  # the client gives up, which is what the test is about
        for at in range(len(content)):
            handler.wfile.write(content[at : at + 1])
            handler.wfile.flush()
            if handler.mirror.closing.wait(0.02):
                break
    handler.close_connection = True


def whole_in_spite_of_range(handler: Handler, content: bytes) -> None:
    handler.head(200, len(content))
    handler.wfile.write(content)


def another_range(handler: Handler, content: bytes) -> None:
    partial(handler, content, 1)
    handler.wfile.write(content[1:])


def announcing(length: int | None) -> Behaviour:
    """The true bytes under a false Content-Length (None: without one)."""

    def act(handler: Handler, content: bytes) -> None:
        handler.head(200, length)
        handler.wfile.write(content)
        handler.close_connection = True

    return act


def sending(data: bytes, **headers: str) -> Behaviour:
    """Other bytes than the true ones."""

    def act(handler: Handler, content: bytes) -> None:
        handler.head(200, len(data), **headers)
        handler.wfile.write(data)

    return act


def endless(handler: Handler, content: bytes) -> None:
    """Without a length and without an end."""
    handler.head(200, None)
    with suppress(OSError):  # the client gives up, which is what the test is about
        while not handler.mirror.closing.is_set():
            handler.wfile.write(bytes(1 << 16))


def redirect(location: str, code: int = 302) -> Behaviour:
    def act(handler: Handler, content: bytes) -> None:
        handler.head(code, 0, Location=location)

    return act


def status(code: int, **headers: str) -> Behaviour:
    def act(handler: Handler, content: bytes) -> None:
        handler.head(code, 0, **headers)

    return act
