"""A wheel comes from the one index that was named, whatever pip is told elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.runtimes.install import downloaded
from agent.runtimes.wheel import RuntimeRefused
from tests.unit.runtimes.made_wheels import make_wheel


class Index:
    """A package index on a socket; serves the wheels of a folder and notes what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                wheel = folder / Path(self.path).name
                names = [path.name for path in folder.glob("*.whl")]
                page = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(wheel.read_bytes() if wheel.is_file() else page.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Not on the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Callable[..., Index]]:
    """Makes an index of wheels of these versions."""
    made: list[Index] = []

    def make(*versions: str, project: str = "onnxruntime_gpu", tag: str = "") -> Index:
        folder = tmp_path / f"index-{len(made)}"
        folder.mkdir()
        for version in versions:
            if tag:
                make_wheel(folder, version, project=project, tag=tag)
            else:
                make_wheel(folder, version, project=project)
        made.append(Index(folder))
        return made[-1]

    yield make
    for item in made:
        item.server.shutdown()
        item.server.server_close()


def test_the_newest_of_the_named_index_is_taken_and_no_other_asked(
    index: Callable[..., Index], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named, other = index("1.0.0", "1.1.0"), index("9.0.0")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nextra-index-url = {other.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", other.url)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index-1"))
    with downloaded(named.url) as wheel:
        assert wheel.name.startswith("onnxruntime_gpu-1.1.0-")
        assert wheel.is_file()
    assert not wheel.exists()
    assert named.asked
    assert other.asked == []


def test_a_version_can_be_named(index: Callable[..., Index]) -> None:
    with downloaded(index("1.0.0", "1.1.0").url, "1.0.0") as wheel:
        assert wheel.name.startswith("onnxruntime_gpu-1.0.0-")


def test_an_index_without_a_fitting_wheel_is_said(index: Callable[..., Index]) -> None:
    named = index("1.0.0", tag="cp39-cp39-linux_aarch64")
    with (
        pytest.raises(RuntimeRefused, match="no onnxruntime-gpu for this Python"),
        downloaded(named.url),
    ):
        pass
