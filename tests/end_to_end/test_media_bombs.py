"""Media bombs: each is answered within limits, memory stays level, nothing is left behind."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end import media_bombs as bombs
from tests.end_to_end.daemon import Daemon
from tests.model_loading.tables import add_row

MOST_S = 120
"""`uploads.max_duration_s` of the daemon here: longer audio is refused."""
ANSWER_S = 60
GROWTH_MB = 150
"""Growth of the daemon that would mean that it holds a file's audio: two hours are 230 MB."""
CHILD_MB = 1024
LOOK_S = 0.02


@dataclass(frozen=True)
class Answer:
    """What came back, and what it took."""

    status: int
    body: dict[str, Any]
    took_s: float
    grown_mb: float
    """Growth of the daemon at its highest."""
    child_mb: float
    """Most memory of a decoding child."""

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = self.body.get("error", {})
        return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("bombed")
    (folder / "tmp").mkdir()
    settings = (f"uploads.max_duration_s={MOST_S}",)
    with Daemon(folder, *settings, environ={"TMPDIR": str(folder / "tmp")}) as running:
        send(running, bombs.wav())  # what is loaded by the first file is no growth of a later one
        yield running
        assert running.get("/health")[0] == 200
        assert "Traceback" not in running.log()


def send(daemon: Daemon, data: bytes, name: str = "bomb") -> Answer:
    """Upload, with the memory of the daemon and of its children watched meanwhile."""
    body = (
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    url = daemon.url + "/v1/audio/transcriptions"
    watch = Watch(daemon.pid)
    begun = time.monotonic()
    with watch:
        try:
            request = urllib.request.Request(url, body, headers)
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                status, told = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, told = error.code, json.load(error)
    return Answer(status, told, time.monotonic() - begun, watch.grown_mb, watch.child_mb)


class Watch:
    """Resident memory of a process and of its largest child, while it is looked at."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._most = self._process.memory_info().rss
        self._child = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def grown_mb(self) -> float:
        return (self._most - self._before) / 2**20

    @property
    def child_mb(self) -> float:
        return self._child / 2**20

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._most = max(self._most, self._process.memory_info().rss)
            for child in self._process.children(recursive=True):
                try:
                    self._child = max(self._child, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


def leftovers(daemon: Daemon) -> list[str]:
    """Children, nameless files and files in the folders for temporary ones."""
    found = [f"process {child.pid}" for child in psutil.Process(daemon.pid).children()]
    for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        found += [target] if target.endswith("(deleted)") else []
    return found + [str(path) for path in (daemon.state_dir / "tmp").iterdir()]


def nothing_is_left(daemon: Daemon) -> None:
    deadline = time.monotonic() + 15
    while leftovers(daemon):
        assert time.monotonic() < deadline, leftovers(daemon)
        time.sleep(0.05)


def check(
    daemon: Daemon, what: str, data: bytes, wanted: dict[int, str | None], words: str = ""
) -> Answer:
    """`wanted`: status -> code of the error, of the answers that are right."""
    answer = send(daemon, data)
    assert answer.status in wanted, (what, answer)
    assert answer.error.get("code") == wanted[answer.status], (what, answer)
    said = answer.error.get("message", answer.body.get("warning", ""))
    assert words in said, (what, said)
    assert answer.grown_mb < GROWTH_MB, (what, answer)
    assert answer.child_mb < CHILD_MB, (what, answer)
    nothing_is_left(daemon)
    says = said or repr(answer.body.get("text", ""))[:40]
    size = f"{len(data) / 1000:.0f} kB"
    cost = f"+{answer.grown_mb:.0f} MB, child {answer.child_mb:.0f} MB, {answer.took_s:.1f} s"
    add_row("media bombs", (what, size, str(answer.status), says[:90], cost))
    return answer


TOO_LONG: dict[int, str | None] = {413: "too_long"}
NO_AUDIO: dict[int, str | None] = {415: "not_audio"}
BROKEN: dict[int, str | None] = {422: "undecodable"}
PARTLY: dict[int, str | None] = {200: None}
NEEDS_PYAV = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is not installed")


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("flac, 10 h of silence", lambda: bombs.silence(10, "FLAC")),
        ("flac, 10 h, no length stated", lambda: bombs.without_length(bombs.silence(10, "FLAC"))),
        ("ogg opus, 10 min of silence", lambda: bombs.silence(1 / 6, "OGG", "OPUS")),
        ("ogg vorbis, 1 h of silence", lambda: bombs.silence(1, "OGG", "VORBIS")),
        ("mp3, 2 h of silence", lambda: bombs.repeated_mp3(2, says_its_length=False)),
        ("wav with ADPCM, 1 h", lambda: bombs.silence(1, "WAV", "MS_ADPCM")),
        (
            "flac that states 2**36 samples",
            lambda: bombs.with_most_samples(bombs.silence(0.05, "FLAC")),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_small_files_that_decode_to_hours_are_too_long(
    daemon: Daemon, what: str, make: Callable[[], bytes]
) -> None:
    data = make()
    assert len(data) < 60e6
    check(daemon, what, data, TOO_LONG, "longer than 120 s (uploads.max_duration_s)")


def test_what_an_mp3_has_behind_its_stated_length_is_not_passed_over(daemon: Daemon) -> None:
    data = bombs.repeated_mp3(2, says_its_length=True)
    check(daemon, "mp3 of 2 h that states 1 min", data, PARTLY, "but the file goes on")


@NEEDS_PYAV
@pytest.mark.parametrize(
    ("what", "kind", "codec"),
    [("mp4 with aac, 10 min of silence", "mp4", "aac"), ("m4a with alac, 10 min", "ipod", "alac")],
    ids=["aac", "alac"],
)
def test_containers_of_hours_are_too_long(daemon: Daemon, what: str, kind: str, codec: str) -> None:
    check(daemon, what, bombs.packed(kind, codec, bombs.HOUR_S / 6), TOO_LONG, "longer than 120 s")


@pytest.mark.parametrize(
    ("what", "data", "wanted"),
    [
        ("wav, 4 GHz sample rate", bombs.wav(rate=0xFFFFFFFF), BROKEN),
        ("wav, 1 Hz", bombs.wav(rate=1), BROKEN),
        ("wav, 0 Hz", bombs.wav(rate=0), {**BROKEN, **NO_AUDIO}),
        ("wav, 255 channels", bombs.wav(channels=255), BROKEN),
        ("wav, 65535 channels", bombs.wav(channels=65535), {**BROKEN, **NO_AUDIO}),
        ("wav, 0 channels", bombs.wav(channels=0), {**BROKEN, **NO_AUDIO}),
        ("wav, 0 bits a sample", bombs.wav(bits=0), {**BROKEN, **NO_AUDIO}),
        ("wav, 65535 bits a sample", bombs.wav(bits=65535), {**BROKEN, **NO_AUDIO}),
        ("wav, unknown coding", bombs.wav(kind=0x7777), {**BROKEN, **NO_AUDIO}),
        ("wav that states 2**31 samples", bombs.wav(stated=0xFFFFFFFE), PARTLY),
        ("wav that states 1 GB", bombs.wav(stated=10**9), PARTLY),
        ("rf64 that states 2**62 samples", bombs.rf64(), {**PARTLY, **BROKEN, **TOO_LONG}),
        ("nothing but RIFF", b"RIFF", NO_AUDIO),
        ("zeros", bytes(10**6), NO_AUDIO),
        ("an empty file", b"", NO_AUDIO),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headers_that_lie_are_named(
    daemon: Daemon, what: str, data: bytes, wanted: dict[int, str | None]
) -> None:
    check(daemon, what, data, wanted)


@NEEDS_PYAV
@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("mp4, 2**32 samples in its table", lambda: bombs.endless_sizes(small("mp4", "aac"))),
        ("mp4, a sample of 2**31 ticks", lambda: bombs.endless_times(small("mp4", "aac"))),
        ("mp4, 20000 boxes in boxes", lambda: bombs.box_in_box(20_000)),
        ("webm, tracks of 2**48 bytes", lambda: bombs.huge_element(small("webm", "libopus"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_containers_whose_tables_lie_cost_nothing(
    daemon: Daemon, what: str, make: Callable[[], bytes]
) -> None:
    check(daemon, what, make(), {**BROKEN, **NO_AUDIO, **TOO_LONG, **PARTLY})


@pytest.mark.parametrize(
    ("what", "kind", "subtype"),
    [
        ("wav, cut off", "WAV", None),
        ("flac, cut off", "FLAC", None),
        ("ogg vorbis, cut off", "OGG", "VORBIS"),
        ("ogg opus, cut off", "OGG", "OPUS"),
        ("mp3, cut off", "MP3", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_a_file_that_is_cut_off_the_rest_is_read_and_it_is_said(
    daemon: Daemon, what: str, kind: str, subtype: str | None
) -> None:
    answer = check(daemon, what, bombs.half(bombs.speechless(8, kind, subtype)), PARTLY)
    assert "warning" in answer.body


@NEEDS_PYAV
@pytest.mark.parametrize(
    ("what", "kind", "codec"),
    [("mp4, cut off before its tables", "mp4", "aac"), ("webm, cut off", "webm", "libopus")],
    ids=["mp4", "webm"],
)
def test_containers_that_are_cut_off_are_named(
    daemon: Daemon, what: str, kind: str, codec: str
) -> None:
    check(daemon, what, bombs.half(small(kind, codec)), {**BROKEN, **NO_AUDIO, **PARTLY})


def small(kind: str, codec: str) -> bytes:
    return bombs.packed(kind, codec, 10, 48000 if codec == "libopus" else 8000)
