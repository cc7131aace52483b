"""`funasr-agent models`: the command line, how it speaks to a daemon, and what it does alone.

The daemon here is a small server that says what the test wants; `tests/end_to_end` has the real
one.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import socket
import socketserver
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.commands.daemon import running_daemon
from agent.commands.progress import ByteProgress
from agent.config import Config
from agent.errors import AgentError, NotReady
from agent.store.bundle import BundleSource, bundle_stream
from agent.store.lock import StoreLock
from tests.model_loading.tiny_models import asr_files, vad_files, write_model

INSTALLED = {"installed": [{"id": "lab", "ref": "lab@00112233", "task": "vad", "already": False}]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config.yaml of the checkout and no environment of the developer."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("FUNASR_AGENT")]:
        monkeypatch.delenv(name)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A folder with a short path, as the system wants it for sockets."""
    made = tempfile.mkdtemp(prefix="agent-")
    yield Path(made)
    shutil.rmtree(made)


class Terminal:
    """Runs a command line in this process and keeps what it said."""

    def __init__(self, folder: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = folder / "state"
        self.run_dir = run_dir
        self._capsys = capsys
        self.out = self.err = ""

    def models(self, *arguments: str, settings: tuple[str, ...] = ()) -> int:
        sets = (f"state_dir={self.state}", f"run_dir={self.run_dir}", *settings)
        extra = [word for value in sets for word in ("--set", value)]
        status = main(["models", *arguments, *extra])
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return status


@pytest.fixture
def terminal(tmp_path: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, run_dir, capsys)


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeDaemon:
    """Answers everything alike, and keeps what it was asked."""

    path: Path
    status: int = 200
    answer: Any = field(default_factory=dict)
    hangs_up: bool = False
    answers_early: bool = False
    asked: list[Request] = field(default_factory=list)

    def __enter__(self) -> FakeDaemon:
        self.path.parent.mkdir(exist_ok=True)
        self._server = _Server(str(self.path), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to print."""


def _handler(daemon: FakeDaemon) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = b"" if daemon.answers_early else _body(self)
            headers = {name.lower(): value for name, value in self.headers.items()}
            daemon.asked.append(Request(self.command, self.path, headers, body))
            if daemon.hangs_up:
                return
            raw = isinstance(daemon.answer, bytes)
            data = daemon.answer if raw else json.dumps(daemon.answer).encode()
            self.send_response(daemon.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def address_string(self) -> str:
            return "the socket"

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def _body(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    pieces = []
    while size := int(handler.rfile.readline(), 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


@pytest.fixture
def daemon(run_dir: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(run_dir / "agent.sock") as running:
        yield running


def error(code: str, message: str, **more: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


# Usage.


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["burn"],
        ["list", "extra"],
        ["install"],
        ["use"],
        ["use", "vad"],
        ["use", "vad="],
        ["use", "=lab"],
        ["use", "ears=lab"],
        ["rollback"],
        ["rollback", "ears"],
        ["remove"],
        ["bundle", "builtin-vad"],
        ["fetch", "fsmn-vad"],
        ["keygen"],
        ["sign", "."],
    ],
)
def test_a_wrong_usage_is_2_and_says_what_would_be_right(
    arguments: list[str], terminal: Terminal
) -> None:
    assert terminal.models(*arguments) == 2
    assert any(word in terminal.err for word in ("usage:", "roles are vad", "--mirror URL"))
    assert not terminal.state.exists()


def test_a_bad_configuration_is_78(terminal: Terminal) -> None:
    assert terminal.models("list", settings=("models.vda=[x]",)) == 78
    assert "did you mean vad" in terminal.err


def test_a_trusted_key_that_can_not_be_read_is_a_bad_configuration(terminal: Terminal) -> None:
    assert terminal.models("list", settings=("models.trusted_keys=[gone.pub]",)) == 78
    assert "models.trusted_keys: gone.pub: can't be read" in terminal.err


@pytest.mark.parametrize("name", ["../../etc", "Lab", "lab@xyz", ""])
@pytest.mark.parametrize("action", ["remove", "verify", "bundle"])
def test_a_name_that_is_no_model_id_is_told(terminal: Terminal, action: str, name: str) -> None:
    if (action, name) == ("verify", ""):
        return  # all models
    more = ["-o", "x.tar"] if action == "bundle" else []
    assert terminal.models(action, name, *more) == 1
    assert "is not a model id" in terminal.err
    assert "models list" in terminal.err


# Speaking to the daemon.


def test_without_a_daemon_there_is_none(run_dir: Path) -> None:
    config = Config.model_validate({"run_dir": run_dir})
    assert running_daemon(config) is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run_dir / "agent.sock"))
    assert running_daemon(config) is None


def test_a_socket_path_that_is_too_long_for_a_daemon_is_no_obstacle(terminal: Terminal) -> None:
    assert terminal.models("list", settings=(f"run_dir=/{'x' * 200}",)) == 0
    assert "builtin-vad" in terminal.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_a_socket_of_another_user_is_told(run_dir: Path, daemon: FakeDaemon) -> None:
    daemon.path.chmod(0)
    with pytest.raises(AgentError, match="as that user or as root"):
        running_daemon(Config.model_validate({"run_dir": run_dir}))


def test_a_socket_that_takes_no_connection_is_temporary(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(run_dir / "agent.sock"))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(run_dir / "agent.sock"))
        with pytest.raises(NotReady, match="does not answer"):
            running_daemon(Config.model_validate({"run_dir": run_dir}))
        for client in waiting:
            client.close()


def test_a_daemon_that_runs_is_asked_instead_of_touching_the_store(
    terminal: Terminal, daemon: FakeDaemon
) -> None:
    daemon.answer = {"ref": "lab@00112233"}
    assert terminal.models("use", "vad=lab") == 0
    assert "vad is served by lab@00112233 from now on" in terminal.out
    assert "open streams finish on theirs" in terminal.out
    assert terminal.models("rollback", "vad") == 0
    assert "vad is served by lab@00112233 again" in terminal.out
    daemon.answer = {"removed": "lab@00112233"}
    assert terminal.models("remove", "lab") == 0
    assert "removed lab@00112233" in terminal.out
    daemon.answer = {"models": []}
    assert terminal.models("verify", "lab") == 0
    assert [(r.method, r.path, r.body) for r in daemon.asked] == [
        ("POST", "/api/v1/models/vad", b'{"id": "lab"}'),
        ("POST", "/api/v1/models/vad/rollback", b"{}"),
        ("DELETE", "/api/v1/models/lab", b""),
        ("POST", "/api/v1/check", b'{"id": "lab"}'),
    ]
    assert not terminal.state.exists()


@pytest.mark.parametrize(
    ("status", "answer", "code", "says"),
    [
        (422, error("golden_mismatch", "it is deaf", level="function"), 1, "(level: function)"),
        (404, error("unknown_model", "lab is not here"), 1, "lab is not here"),
        (413, error("too_large", "raise models.max_bundle_mb"), 1, "raise models.max_bundle_mb"),
        (507, error("no_space", "the disk is full"), 1, "the disk is full"),
        (409, error("in_use", "lab serves vad"), 1, "lab serves vad"),
        (409, error("store_busy", "the agent is switching vad"), 75, "is switching vad"),
        (503, error("not_ready", "the agent is stopping"), 75, "the agent is stopping"),
        (500, error("internal", "the agent failed; its log says why"), 1, "its log says why"),
        (500, b"<html>", 1, "answered 500 without JSON"),
        (500, [], 1, "answered 500"),
        (500, {"error": "odd"}, 1, "answered 500"),
    ],
)
def test_what_the_daemon_refuses_is_said_in_its_words_with_the_right_exit_code(
    terminal: Terminal, daemon: FakeDaemon, status: int, answer: Any, code: int, says: str
) -> None:
    daemon.status, daemon.answer = status, answer
    assert terminal.models("use", "vad=lab") == code
    assert says in terminal.err


def test_a_daemon_that_hangs_up_is_temporary(terminal: Terminal, daemon: FakeDaemon) -> None:
    daemon.hangs_up = True
    assert terminal.models("use", "vad=lab") == 75
    assert "stopped answering" in terminal.err
    assert "log" in terminal.err


def make_bundle(folder: Path) -> bytes:
    write_model(folder, "lab", vad_files())
    with bundle_stream([BundleSource("lab", folder / "lab")]) as stream:
        return stream.read()


def as_file(folder: Path, data: bytes) -> str:
    (folder / "lab.tar").write_bytes(data)
    return str(folder / "lab.tar")


def as_folder(folder: Path, data: bytes) -> str:
    return str(folder / "lab")


def as_pipe(folder: Path, data: bytes) -> str:
    """As a shell's `<(...)`."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(data,)).start()
    return str(pipe)


@pytest.mark.parametrize(("way", "sized"), [(as_file, True), (as_folder, True), (as_pipe, False)])
def test_a_bundle_is_streamed_to_the_daemon_with_its_size_where_that_is_known(
    terminal: Terminal,
    daemon: FakeDaemon,
    tmp_path: Path,
    way: Callable[[Path, bytes], str],
    sized: bool,
) -> None:
    daemon.status, daemon.answer = 201, INSTALLED
    data = make_bundle(tmp_path)
    assert terminal.models("install", way(tmp_path, data)) == 0
    (request,) = daemon.asked
    assert request.body == data
    assert request.headers.get("content-length") == (str(len(data)) if sized else None)
    assert "lab@00112233: installed" in terminal.out
    assert "models use vad=lab" in terminal.out


def test_a_bundle_on_standard_input_is_streamed(
    terminal: Terminal, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer = INSTALLED
    data = make_bundle(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert terminal.models("install", "-") == 0
    assert daemon.asked[0].body == data


def test_an_answer_that_comes_before_the_whole_bundle_was_sent_is_shown(
    terminal: Terminal, daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.answers_early = True
    daemon.status, daemon.answer = 413, error("too_large", "raise models.max_bundle_mb")
    (tmp_path / "big.tar").write_bytes(bytes(30 << 20))
    assert terminal.models("install", "big.tar") == 1
    assert "raise models.max_bundle_mb" in terminal.err


def test_the_list_of_the_daemon_shows_what_serves(terminal: Terminal, daemon: FakeDaemon) -> None:
    row = {
        "ref": "lab@00112233",
        "task": "vad",
        "family": "fsmn_vad",
        "size_mb": 1.5,
        "state": "present",
        "installed": True,
        "pinned": False,
        "serves": "vad",
        "chosen_for": "vad",
        "previous_of": None,
        "proof": {"variant": "fp32", "derived": None, "provider": "cpu"},
    }
    bad = {"ref": "bad@44556677", "state": "refused", "level": "integrity", "reason": "is missing"}
    daemon.answer = {"models": [row]}
    assert terminal.models("list") == 0
    cells = terminal.out.splitlines()[1].split("  ")
    assert cells[0] == "lab@00112233"
    assert cells[-1].strip() == ("installed, unpinned, serves vad, chosen for vad, fp32 on cpu")
    daemon.answer = {"models": [row, bad]}
    assert terminal.models("list") == 1
    assert "refused at the level integrity" in terminal.out
    assert "bad@44556677: is missing" in terminal.err
    assert terminal.models("list", "--json") == 1
    assert json.loads(terminal.out) == {"models": [row, bad]}


# Without a daemon.


def test_the_list_names_the_models_that_come_with_the_agent(terminal: Terminal) -> None:
    assert terminal.models("list", "--json") == 0
    rows = {row["id"]: row for row in json.loads(terminal.out)["models"]}
    assert set(rows) >= {"builtin-vad", "builtin-online", "builtin-offline"}
    assert all(row["pinned"] and not row["installed"] for row in rows.values())
    assert not terminal.state.exists()


def test_a_model_folder_that_can_not_be_read_is_shown_and_makes_the_list_fail(
    terminal: Terminal,
) -> None:
    folder = terminal.state / "models" / "lab@00112233"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text("schema: 1")
    assert terminal.models("list") == 1
    assert "lab@00112233  " in terminal.out
    assert "refused at the level integrity" in terminal.out
    assert "lab@00112233: " in terminal.err


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("gone.tar", "gone.tar: can't be read (No such file or directory)"),
        ("empty", "config.yaml"),
        ("notes.txt", "is not a .tar or .tar.zst archive"),
    ],
)
def test_what_can_not_be_installed_is_told(
    terminal: Terminal, tmp_path: Path, path: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no archive" * 100)
    assert terminal.models("install", path) == 1
    assert says in terminal.err


def test_a_store_that_another_process_changes_is_temporary(
    terminal: Terminal, tmp_path: Path
) -> None:
    path = as_file(tmp_path, make_bundle(tmp_path))
    changes = [
        ["install", path],
        ["use", "vad=builtin-vad"],
        ["rollback", "vad"],
        ["remove", "lab"],
        ["verify"],
    ]
    with StoreLock(terminal.state):
        for change in changes:
            assert terminal.models(*change) == 75
            assert f"process {os.getpid()} is changing the model store" in terminal.err
            assert "try again" in terminal.err
        assert terminal.models("list") == 0
    assert not (terminal.state / "roles.yaml").exists()


def test_a_choice_without_a_daemon_is_proven_and_recorded(terminal: Terminal) -> None:
    write_model(terminal.state.parent / "shipped", "ears", vad_files())
    shipped = f"models.dir={terminal.state.parent / 'shipped'}"
    assert terminal.models("use", "vad=ears", settings=(shipped, "models.vad=[ears]")) == 0
    assert "serves from the next start on" in terminal.out
    assert "ears@" in (terminal.state / "roles.yaml").read_text()


def test_punctuation_alone_can_be_switched_off(terminal: Terminal) -> None:
    assert terminal.models("use", "punctuation=none") == 0
    assert "model: none" in (terminal.state / "roles.yaml").read_text()
    assert terminal.models("use", "vad=none") == 1
    assert "only punctuation can" in terminal.err


def test_a_model_damaged_since_it_was_proven_is_not_chosen(
    terminal: Terminal, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    folder = write_model(shipped, "ears", vad_files())
    write_model(shipped, "others", vad_files(am_mvn=vad_files()["am.mvn"] + b"\n"))
    sets = (f"models.dir={shipped}", "models.vad=[others]")
    assert terminal.models("use", "vad=ears", settings=sets) == 0
    assert terminal.models("use", "vad=others", settings=sets) == 0
    chosen = (terminal.state / "roles.yaml").read_bytes()
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    assert terminal.models("use", "vad=ears", settings=sets) == 1
    assert "model.onnx: sha256 is" in terminal.err
    assert "(level: integrity)" in terminal.err
    assert (terminal.state / "roles.yaml").read_bytes() == chosen


def test_a_rollback_without_an_earlier_choice_is_told(terminal: Terminal) -> None:
    assert terminal.models("rollback", "vad") == 1
    assert "vad has no previous model" in terminal.err


# Models as files.


def test_a_bundle_is_written_whole_or_not_at_all(terminal: Terminal, tmp_path: Path) -> None:
    folder = write_model(terminal.state.parent / "shipped", "ears", asr_files())
    sets = (f"models.dir={folder.parent}",)
    assert terminal.models("bundle", "ears", "-o", "ears.tar", settings=sets) == 0
    assert "ears.tar: ears" in terminal.out
    whole = (tmp_path / "ears.tar").read_bytes()
    (folder / "model.onnx").write_bytes(b"damaged")
    assert terminal.models("bundle", "ears", "-o", "ears.tar", settings=sets) == 1
    assert "install it again" in terminal.err
    assert (tmp_path / "ears.tar").read_bytes() == whole
    assert terminal.models("bundle", "ears", "-o", "no/such/ears.tar", settings=sets) == 1
    assert terminal.models("bundle", "gone", "-o", "x.tar", settings=sets) == 1
    assert sorted(os.listdir(tmp_path)) == ["ears.tar", "shipped"]


def test_an_ending_in_zst_compresses(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.models("bundle", "builtin-vad", "-o", "a.tar.zst") == 0
    assert (tmp_path / "a.tar.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"


def test_a_key_pair_is_made_and_the_private_key_is_secret(
    terminal: Terminal, tmp_path: Path
) -> None:
    assert terminal.models("keygen", "lab") == 0
    secret = (tmp_path / "lab.key").read_text()
    assert stat.S_IMODE((tmp_path / "lab.key").stat().st_mode) == 0o600
    said = terminal.out + terminal.err
    assert not any(line in said for line in secret.splitlines())
    assert "keep it off the devices" in terminal.out
    assert "models.trusted_keys" in terminal.out
    assert terminal.models("keygen", "lab") == 1
    assert "exists already" in terminal.err
    assert (tmp_path / "lab.key").read_text() == secret


def test_what_can_not_be_signed_is_told(terminal: Terminal, tmp_path: Path) -> None:
    terminal.models("keygen", "lab")
    (tmp_path / "export").mkdir()
    for model, key, says in [
        ("export", "lab.key", "has no manifest.yaml to sign"),
        ("gone", "lab.key", "gone is not here"),
        ("builtin-vad", "lab.pub", "is a public key"),
        ("builtin-vad", "gone.key", "can't be read"),
    ]:
        assert terminal.models("sign", model, "--key", key) == 1
        assert says in terminal.err


def test_a_fetch_needs_a_known_model_and_a_mirror(terminal: Terminal) -> None:
    assert terminal.models("fetch", "nobody") == 1
    assert "known are " in terminal.err
    assert terminal.models("fetch", "fsmn-vad") == 2
    assert "--mirror URL or set models.mirror" in terminal.err


# Progress.


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_over_bytes_is_drawn_on_a_terminal_only() -> None:
    for stream, drawn in ((Screen(), True), (io.StringIO(), False)):
        with ByteProgress("installing [b]lab[/b].tar", 3000, stream) as told:
            told.at(1000)
            told.add(500)
            told.file("model.onnx", 10, None)
            told.file("installing [b]lab[/b].tar", 1600, 3000)
        assert ("installing [b]lab[/b].tar" in stream.getvalue()) is drawn
        assert bool(stream.getvalue()) is drawn


class Noting(ByteProgress):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__("reading", None, io.StringIO())
        self.seen: list[int] = []

    def at(self, done: int) -> None:
        super().at(done)
        self.seen.append(done)


def test_what_is_read_through_a_bar_is_unchanged_and_counted() -> None:
    data = os.urandom((3 << 20) + 7)
    told = Noting()
    assert told.reading(io.BytesIO(data)).read() == data
    assert told.seen == sorted(told.seen)
    assert (told.seen[-1], len(told.seen) > 3) == (len(data), True)
