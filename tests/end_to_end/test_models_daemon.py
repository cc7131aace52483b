"""`funasr-agent models` as processes, with the real daemon and without one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import pytest
import soundfile
from onnx import numpy_helper

from agent.store.lock import StoreLock
from tests.end_to_end.daemon import Daemon
from tests.model_loading.tiny_models import asr_files, manifest_bytes, vad_files, write_model

CLIP = "tests/data/clips/zh-1.wav"
NOBODY = 65534


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


class Box:
    """A state folder, and the command line on it."""

    def __init__(self, state: Path, *settings: str) -> None:
        self.state = state
        self.settings = settings

    def models(self, *arguments: str, stdin: bytes | None = None) -> Done:
        """Runs `funasr-agent models ...`; never shows a traceback, whatever happens."""
        command = [sys.executable, "-m", "agent", "models", *arguments]
        for setting in (f"state_dir={self.state}", *self.settings):
            command += ["--set", setting]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in err
        return Done(done.returncode, out, err)

    def row(self, model_id: str) -> dict[str, Any]:
        """What `models list --json` says of a model."""
        rows = json.loads(self.models("list", "--json").out)["models"]
        return next((row for row in rows if row["id"] == model_id), {})

    def installed(self) -> list[str]:
        """Everything in the folder of installed models, hidden or not."""
        folder = self.state / "models"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def roles(self) -> str:
        path = self.state / "roles.yaml"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound small models: an offline recogniser `lab`, a VAD `ears`."""
    folder = tmp_path_factory.mktemp("made")
    write_model(folder, "lab", asr_files())
    write_model(folder, "ears", vad_files())
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Box:
    """Another box, without a daemon, on which both are installed."""
    box = Box(tmp_path_factory.mktemp("other"))
    assert box.models("install", str(made / "lab")).status == 0
    assert box.models("install", str(made / "ears")).status == 0
    return box


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("box")


@pytest.fixture(scope="module")
def daemon(state: Path) -> Iterator[Daemon]:
    """One for all tests; each leaves it with the embedded models."""
    with Daemon(state, "models.max_bundle_mb=8") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log()


@pytest.fixture
def box(daemon: Daemon, state: Path) -> Iterator[Box]:
    """The daemon's box; cleared of what a test installed."""
    made = Box(state)
    yield made
    for role, model in (("vad", "builtin-vad"), ("asr_offline", "builtin-offline")):
        if serving(daemon, role)["id"] != model:
            assert ask(daemon, "POST", f"/api/v1/models/{role}", id=model) == 200
    for name in made.installed():
        assert ask(daemon, "DELETE", f"/api/v1/models/{name}") == 200


def ask(daemon: Daemon, method: str, path: str, **body: str) -> int:
    """The status of a request to the daemon."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(daemon.url + path, data, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def serving(daemon: Daemon, role: str) -> dict[str, Any]:
    """The row of a role in the daemon's status."""
    return next(r for r in daemon.get("/api/v1/status")[1]["models"] if r["role"] == role)


def check(daemon: Daemon, name: str) -> dict[str, Any]:
    return next(c for c in daemon.get("/health")[1]["checks"] if c["name"] == name)


def until(there: Callable[[], bool]) -> None:
    for _ in range(400):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


async def read_clip(daemon: Daemon, clip: Path, meanwhile: Callable[[], object]) -> str:
    """The finals of a stream; `meanwhile` happens when half of the clip was sent."""
    samples = soundfile.read(clip, dtype="int16")[0]
    pieces = np.array_split(samples, 2)
    sent, finals = 0, []
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(daemon.url + "/api/v1/stream") as stream,
    ):
        await stream.send_json({"type": "start", "sample_rate": 16000, "mode": "offline"})
        assert (await stream.receive_json(timeout=10))["type"] == "started"
        for piece in pieces:
            await stream.send_bytes(sent.to_bytes(8, "little") + piece.tobytes())
            sent += len(piece)
            if sent < len(samples):
                await asyncio.to_thread(meanwhile)
        await stream.send_json({"type": "stop"})
        while (event := await stream.receive_json(timeout=20))["type"] != "stopped":
            finals += [event["text"]] if event["type"] == "final" else []
    return " ".join(finals)


def read(daemon: Daemon, clip: Path, meanwhile: Callable[[], object] = lambda: None) -> str:
    return asyncio.run(read_clip(daemon, clip, meanwhile))


def test_a_bundle_of_another_box_is_installed_used_rolled_back_and_removed(
    daemon: Daemon, box: Box, other: Box, root: Path, tmp_path: Path
) -> None:
    bundle = str(tmp_path / "lab.tar.zst")
    assert other.models("bundle", "lab", "-o", bundle).status == 0
    expected = read(daemon, root / CLIP)

    done = box.models("install", bundle)
    (name,) = box.installed()
    assert (done.status, done.out.startswith(f"{name}: installed; ")) == (0, True)
    assert "models use asr_offline=lab" in done.out
    assert serving(daemon, "asr_offline")["id"] == "builtin-offline"
    again = box.models("install", bundle)
    assert (again.status, "installed already" in again.err) == (1, True)

    used: list[Done] = []
    begun_before = read(
        daemon, root / CLIP, lambda: used.append(box.models("use", "asr_offline=lab"))
    )
    assert used[0].status == 0
    assert f"asr_offline is served by {name} from now on" in used[0].out
    assert begun_before == expected
    assert serving(daemon, "asr_offline")["ref"] == name
    assert read(daemon, root / CLIP) not in ("", expected)
    assert set(read(daemon, root / CLIP).lower()) <= {"a", " "}
    line = next(x for x in box.models("list").out.splitlines() if x.startswith(name))
    assert "serves asr_offline, chosen for asr_offline, fp32 on cpu" in line
    in_use = box.models("remove", "lab")
    assert (in_use.status, "choose another" in in_use.err) == (1, True)

    back = box.models("rollback", "asr_offline")
    assert (back.status, "builtin-offline" in back.out) == (0, True)
    assert serving(daemon, "asr_offline")["id"] == "builtin-offline"
    assert read(daemon, root / CLIP) == expected
    mark, ref = box.models("verify", "lab").out.split()[:2]
    assert (mark in ("ok", "slow"), ref) == (True, name)
    removed = box.models("remove", name)
    assert (removed.status, removed.out) == (0, f"removed {name}\n")
    assert box.installed() == []
    assert daemon.get("/readyz")[0] == 200


def as_tar(other: Box, folder: Path) -> tuple[str, bytes | None]:
    other.models("bundle", "ears", "-o", str(folder / "ears.tar"))
    return str(folder / "ears.tar"), None


def as_stdin(other: Box, folder: Path) -> tuple[str, bytes | None]:
    return "-", Path(as_tar(other, folder)[0]).read_bytes()


@pytest.mark.parametrize("way", [as_tar, as_stdin])
def test_a_plain_bundle_comes_as_a_file_or_on_standard_input(
    box: Box, other: Box, tmp_path: Path, way: Callable[[Box, Path], tuple[str, bytes | None]]
) -> None:
    path, stdin = way(other, tmp_path)
    done = box.models("install", path, stdin=stdin)
    assert (done.status, done.err) == (0, "")
    assert box.installed() == [line.partition(":")[0] for line in done.out.splitlines()[:1]]
    assert box.row("ears")["proof"]["variant"] == "fp32"


def test_a_model_that_was_damaged_is_refused_by_use_and_the_old_one_serves(
    daemon: Daemon, box: Box, made: Path
) -> None:
    assert box.models("install", str(made / "ears")).status == 0
    (name,) = box.installed()
    graph = box.state / "models" / name / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    before = box.roles()
    done = box.models("use", "vad=ears")
    assert done.status == 1
    assert "model.onnx: sha256 is" in done.err
    assert "install the bundle again" in done.err
    assert "vad keeps its model" in done.err
    assert "(level: integrity)" in done.err
    assert serving(daemon, "vad")["id"] == "builtin-vad"
    assert box.roles() == before
    verified = box.models("verify")
    assert (verified.status, f"refused  {name}  integrity: " in verified.out) == (1, True)
    assert check(daemon, "model_store")["status"] == "degraded"
    assert daemon.get("/readyz")[0] == 200
    repaired = box.models("install", str(made / "ears"))
    assert (repaired.status, box.installed()) == (0, [name])
    assert ask(daemon, "POST", "/api/v1/check") == 200
    assert "sha256" not in check(daemon, "model_store")["reason"]


def test_what_is_wrong_is_told_in_words_that_say_what_to_do(
    daemon: Daemon, box: Box, tmp_path: Path
) -> None:
    (tmp_path / "big.tar").write_bytes(bytes(9 << 20))
    (tmp_path / "notes.txt").write_text("no archive" * 100)
    told = {
        ("install", str(tmp_path / "big.tar")): (1, "models.max_bundle_mb"),
        ("install", str(tmp_path / "notes.txt")): (1, "copy or upload it again"),
        ("use", "vad=gone"): (1, "install the model or change models"),
        ("use", "vad=builtin-offline"): (1, "(level: compatibility)"),
        ("remove", "builtin-vad"): (1, "comes with the agent and stays"),
        ("use", "ears=builtin-vad"): (2, "roles are vad, asr_online"),
    }
    for arguments, (status, words) in told.items():
        done = box.models(*arguments)
        assert (arguments, done.status) == (arguments, status)
        assert words in done.err
    assert box.installed() == []


def test_an_interrupted_upload_leaves_nothing_and_the_daemon_free(box: Box, made: Path) -> None:
    command = [sys.executable, "-m", "agent", "models", "install", "-"]
    command += ["--set", f"state_dir={box.state}"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as sending:  # type: ignore[call-overload]
        sending.stdin.write(bytes(1 << 20))
        sending.stdin.flush()
        until(lambda: any(name.startswith(".staging") for name in box.installed()))
        sending.send_signal(signal.SIGINT)
        assert sending.wait(20) == 130
        assert sending.stderr.read() == b""
    until(lambda: box.installed() == [])
    assert box.models("install", str(made / "ears")).status == 0


def test_punctuation_is_switched_off_and_stays_off(daemon: Daemon, box: Box) -> None:
    assert box.models("use", "punctuation=none").status == 0
    assert serving(daemon, "punctuation")["id"] == "none"
    assert "punctuation:\n  model: none" in box.roles()


def noisy(folder: Path, source: Path) -> Path:
    """A copy of the export whose weights are random noise, in the same graphs."""
    shutil.copytree(source, folder)
    random = np.random.default_rng(0)
    for path in folder.glob("model*.onnx"):
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            weights = numpy_helper.to_array(tensor)
            if weights.size < 1000:
                continue
            noise = (
                random.normal(0, 1, weights.shape)
                if weights.dtype.kind == "f"
                else random.integers(0, 127, weights.shape)
            )
            tensor.CopyFrom(numpy_helper.from_array(noise.astype(weights.dtype), tensor.name))
        onnx.save(model, path)
    return folder


@pytest.fixture
def export(shared: Path) -> Path:
    """The published VAD as its exporter left it."""
    folder = shared / "models" / "fsmn-vad"
    if not folder.is_dir():
        pytest.skip("the published FSMN-VAD is not on this machine (../shared)")
    return folder


def test_an_export_of_funasr_is_adopted_takes_the_role_and_rolls_back(
    daemon: Daemon, box: Box, export: Path, root: Path, tmp_path: Path
) -> None:
    expected = read(daemon, root / CLIP)
    copied = shutil.copytree(export, tmp_path / "fsmn-vad")
    done = box.models("install", str(copied))
    (name,) = box.installed()
    assert (done.status, name.partition("@")[0]) == (0, "fsmn-vad")
    listed = box.models("list").out.splitlines()
    states = {line.split()[0].partition("@")[0]: line for line in listed[1:]}
    assert "installed, unpinned" in states["fsmn-vad"]
    assert "comes with the agent, pinned" in states["builtin-vad"]
    assert not (copied / "manifest.yaml").exists()

    assert box.models("use", "vad=fsmn-vad").status == 0
    row = serving(daemon, "vad")
    assert (row["ref"], row["pinned"]) == (name, False)
    assert check(daemon, "model_vad")["status"] == "ok"
    assert "unpinned" in check(daemon, "model_vad")["reason"]
    assert read(daemon, root / CLIP)
    assert box.models("rollback", "vad").status == 0
    assert (serving(daemon, "vad")["id"], serving(daemon, "vad")["pinned"]) == ("builtin-vad", True)
    assert read(daemon, root / CLIP) == expected


def test_an_export_whose_weights_are_noise_is_refused_at_level_3(
    daemon: Daemon, box: Box, export: Path, tmp_path: Path
) -> None:
    done = box.models("install", str(noisy(tmp_path / "fsmn-vad", export)), "--id", "noise")
    assert done.status == 1
    assert "its weights are not those of a voice detector" in done.err or "in silence" in done.err
    assert "(level: function)" in done.err
    assert box.installed() == []
    assert not list((box.state / "choices").glob("noise*"))
    assert serving(daemon, "vad")["id"] == "builtin-vad"


def test_what_was_chosen_serves_after_a_restart_without_a_new_trial(
    made: Path, tmp_path: Path
) -> None:
    box = Box(tmp_path)
    with Daemon(tmp_path) as daemon:
        socket = tmp_path / "run" / "agent.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert box.models("install", str(made / "lab")).status == 0
        assert box.models("use", "asr_offline=lab").status == 0
        # Another process sees that the store has an owner.
        elsewhere = Box(tmp_path, f"run_dir={tmp_path / 'elsewhere'}")
        busy = elsewhere.models("use", "asr_offline=builtin-offline")
        assert (busy.status, f"process {daemon.pid} is changing" in busy.err) == (75, True)
        assert daemon.stop() == 0
    assert not socket.exists()
    proofs = {path: path.stat().st_mtime_ns for path in (tmp_path / "choices").iterdir()}
    assert len(proofs) == 4
    with Daemon(tmp_path) as daemon:
        assert serving(daemon, "asr_offline")["id"] == "lab"
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "choices").iterdir()} == proofs
        assert box.models("rollback", "asr_offline").status == 0
        assert serving(daemon, "asr_offline")["id"] == "builtin-offline"
        assert "Traceback" not in daemon.log()


def test_a_daemon_that_starts_waits_for_a_command_that_changes_the_store(tmp_path: Path) -> None:
    changing = ExitStack()
    changing.enter_context(StoreLock(tmp_path))
    with changing, Daemon(tmp_path, ready=False) as daemon:
        busy = Box(tmp_path).models("use", "vad=builtin-vad")
        assert (busy.status, f"process {os.getpid()} is changing" in busy.err) == (75, True)
        assert daemon.get("/health")[1]["status"] == "starting"
        assert daemon.get("/")[0] == 200
        changing.close()
        until(lambda: daemon.get("/readyz")[0] == 200)


def test_without_a_daemon_a_model_is_installed_used_and_removed(made: Path, tmp_path: Path) -> None:
    box = Box(tmp_path / "state")
    assert box.models("install", str(made / "ears")).status == 0
    (name,) = box.installed()
    used = box.models("use", "vad=ears")
    assert (used.status, used.out) == (0, f"vad: {name} serves from the next start on\n")
    assert (box.row("ears")["chosen_for"], box.row("ears")["serves"]) == ("vad", None)
    in_use = box.models("remove", "ears")
    assert (in_use.status, "models use vad=ID" in in_use.err) == (1, True)
    assert box.models("rollback", "vad").out.startswith("vad: builtin-vad@")
    with StoreLock(box.state):
        busy = box.models("remove", "ears")
        assert (busy.status, f"process {os.getpid()} is changing" in busy.err) == (75, True)
    assert box.models("remove", "ears").status == 0
    assert box.installed() == []


def test_with_trusted_keys_only_signed_models_are_installed(tmp_path: Path) -> None:
    workshop = Box(tmp_path / "workshop")
    keys = workshop.models("keygen", str(tmp_path / "own"))
    box = Box(tmp_path / "state", f"models.trusted_keys=[{tmp_path / 'own.pub'}]")
    folder = write_model(tmp_path, "ears", vad_files())
    refused = box.models("install", str(folder))
    assert (refused.status, box.installed()) == (1, [])
    assert "is not signed" in refused.err
    assert "(level: integrity)" in refused.err
    assert "models sign" in refused.err
    signed = workshop.models("sign", str(folder), "--key", str(tmp_path / "own.key"))
    accepted = box.models("install", str(folder))
    assert (keys.status, signed.status, accepted.status) == (0, 0, 0)
    assert len(box.installed()) == 1

    workshop.models("keygen", str(tmp_path / "strange"))
    (folder / "manifest.yaml").write_bytes(manifest_bytes("ears", vad_files(), license="other"))
    workshop.models("sign", str(folder), "--key", str(tmp_path / "strange.key"))
    stranger = box.models("install", str(folder))
    assert (stranger.status, "not by a trusted key" in stranger.err) == (1, True)
    assert len(box.installed()) == 1

    assert stat.S_IMODE((tmp_path / "own.key").stat().st_mode) == 0o600
    secret = (tmp_path / "own.key").read_text().splitlines()
    said = "".join(done.out + done.err for done in (keys, signed, accepted, refused))
    assert not any(line in said for line in secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another user")
def test_what_root_does_stays_the_owners(made: Path, tmp_path: Path) -> None:
    box = Box(tmp_path / "state")
    box.state.mkdir()
    os.chown(box.state, NOBODY, NOBODY)
    assert box.models("install", str(made / "ears")).status == 0
    assert box.models("use", "vad=ears").status == 0
    assert "ears@" in box.models("verify").out
    assert box.models("rollback", "vad").status == 0
    below = [box.state, *box.state.rglob("*")]
    assert len(below) > 8
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in below} == {(NOBODY, NOBODY)}
