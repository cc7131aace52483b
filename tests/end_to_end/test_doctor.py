"""`funasr-agent doctor`: a healthy box, each fault in turn, and another box over the network."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.commands.doctor import doctor
from agent.doctor.box import Box
from agent.store.checkup import ModelCheckup
from tests.end_to_end.daemon import Daemon


def row(role: str, ref: str, serves: bool, *words: str, **more: object) -> ModelCheckup:
    """A checked model, pinned unless the test says otherwise."""
    return ModelCheckup(role, ref, serves, *words, **{"pinned": True, **more})  # type: ignore[arg-type]


ROWS = [row(role, f"{role}@1", True) for role in ("vad", "asr_online", "asr_offline")]

Lines = dict[str, dict[str, str]]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = ("FUNASR_AGENT", "ORT_", "XDG_")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environ["HOME"] = environ["TMPDIR"] = str(folder)
    return subprocess.run(
        [sys.executable, "-m", "agent", "doctor", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        timeout=120,
    )


def look(folder: Path, *settings: str, url: str | None = None) -> tuple[int, str, Lines]:
    """Exit code, status and the lines by name of a real run."""
    arguments = ["--json", *(["--url", url] if url else [])]
    port = f"listen.0.port={free_port()}"
    for setting in (port, f"state_dir={folder / 'state'}", *settings):
        arguments += ["--set", setting]
    done = run(folder, *arguments)
    assert "Traceback" not in done.stderr
    return (done.returncode, *lines_of(done.stdout))


def lines_of(text: str) -> tuple[str, Lines]:
    report: dict[str, Any] = json.loads(text)
    assert all(set(item) == {"name", "status", "seen", "advice"} for item in report["checks"])
    assert all(item["advice"] for item in report["checks"] if item["status"] != "ok")
    return report["status"], {item["name"]: item for item in report["checks"]}


def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port: int = link.getsockname()[1]
        return port


def of(lines: Lines, name: str) -> tuple[str, str]:
    return lines[name]["status"], lines[name]["seen"]


def test_a_healthy_box_passes_and_nothing_is_left_behind(tmp_path: Path) -> None:
    code, status, lines = look(tmp_path)
    bad = [line for line in lines.values() if line["status"] == "failure"]
    assert (code, bad) == (0, [])
    assert status in ("ok", "warning")  # few machines of developers have a microphone
    assert list(lines)[:7] == [
        "configuration",
        "python",
        "packages",
        "onnxruntime",
        "telemetry",
        "cpu",
        "gpu",
    ]
    for name in ("configuration", "packages", "onnxruntime", "telemetry", "certificate"):
        assert lines[name]["status"] == "ok"
    for role in ("vad", "asr_online", "asr_offline"):
        assert of(lines, f"model {role}")[0] == "ok"
        assert "builtin" in of(lines, f"model {role}")[1]
    for name in ("memory", "microphone", "disk", "clock", "temperature", "name"):
        assert name in lines
    assert list(tmp_path.iterdir()) == []


def test_people_get_plain_lines_and_a_sum(tmp_path: Path) -> None:
    done = run(tmp_path, "--set", "listen.0.port=0", "--set", f"state_dir={tmp_path}")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       configuration      no problems (defaults, --set)")
    assert "\x1b" not in done.stdout
    assert lines[-1].startswith(f"{sum(line[0] != ' ' for line in lines) - 1} checks: ")
    assert done.returncode == 0


def test_a_bad_configuration_is_one_failed_line_with_every_problem(tmp_path: Path) -> None:
    code, status, lines = look(tmp_path, "listen.0.port=99999", "modles.dir=x")
    assert (code, status) == (1, "failure")
    seen = of(lines, "configuration")[1]
    assert "listen.0.port" in seen
    assert "did you mean models?" in seen
    assert lines["onnxruntime"]["status"] == "ok"


def test_a_port_that_is_taken_is_the_line_that_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as link:
        port = link.getsockname()[1]
        code, status, lines = look(tmp_path, f"listen.0.port={port}")
    assert (code, status) == (1, "failure")
    assert [n for n, line in lines.items() if line["status"] == "failure"] == [f"port {port}"]
    assert f"(process {os.getpid()})" in of(lines, f"port {port}")[1]


def test_a_state_folder_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    code, _, lines = look(tmp_path, f"state_dir={tmp_path / 'state' / 'x'}")
    assert code == 1
    assert of(lines, "disk") == ("failure", f"{tmp_path / 'state'} is not a folder")


def test_a_broken_model_is_told_with_what_serves(root: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(root / "models", models)
    graph = models / "builtin-offline" / "model_quant.onnx"
    data = bytearray(graph.read_bytes())
    data[1000] ^= 1
    graph.write_bytes(data)
    code, status, lines = look(tmp_path, f"models.dir={models}")
    assert (code, status) == (0, "warning")
    assert of(lines, "model asr_offline")[0] == "warning"
    assert "model_quant.onnx: sha256 is" in of(lines, "model asr_offline")[1]
    assert of(lines, "model asr_online")[0] == "ok"


def test_without_models_nothing_serves_and_the_check_fails(tmp_path: Path) -> None:
    code, _, lines = look(tmp_path, f"models.dir={tmp_path / 'nothing'}")
    assert code == 1
    for role in ("vad", "asr_online", "asr_offline"):
        assert of(lines, f"model {role}")[0] == "failure"


def in_process(tmp_path: Path, box: Box, capsys: pytest.CaptureFixture[str]) -> tuple[int, Lines]:
    """A run with an injected box; the models are not looked at."""
    settings = ["listen.0.port=0", f"state_dir={tmp_path}"]
    args = argparse.Namespace(json=True, url=None, token=None, config=None, settings=settings)
    code = doctor(args, box=box, verify=lambda config: ROWS)
    return code, lines_of(capsys.readouterr().out)[1]


def test_a_wrong_clock_is_the_line_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    past = datetime.datetime(1999, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
    code, lines = in_process(tmp_path, Box(now=lambda: past), capsys)
    assert code == 1
    assert [n for n, line in lines.items() if line["status"] == "failure"] == ["clock"]
    assert "1999-01-01" in of(lines, "clock")[1]


def test_a_full_disk_is_the_line_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # bsize frsize blocks bfree bavail files ffree favail flag namemax
    full = os.statvfs_result((4096, 4096, 1_000_000, 5, 5, 100, 50, 50, 0, 255))
    code, lines = in_process(tmp_path, Box(statvfs=lambda folder: full), capsys)
    assert code == 1
    assert [n for n, line in lines.items() if line["status"] == "failure"] == ["disk"]
    assert "the disk is full" in of(lines, "disk")[1]


def test_the_agents_own_ports_are_fine_while_it_runs_and_it_passes_from_outside(
    root: Path, tmp_path: Path
) -> None:
    listen = "listen=[{port: 0}, {port: 0, tls: true}]"
    with Daemon(tmp_path, listen, listeners=2) as daemon:
        ports = [address.rstrip("/").rsplit(":", 1)[1] for address in daemon.addresses]
        same = f"listen=[{{port: {ports[0]}}}, {{port: {ports[1]}, tls: true}}]"
        code, _, lines = look(tmp_path, same, f"state_dir={tmp_path}")
        assert code == 0
        for port in ports:
            assert of(lines, f"port {port}")[0] == "ok"
            assert "funasr-agent" in of(lines, f"port {port}")[1]
        assert "the running agent holds" in of(lines, "memory")[1]
        assert "made by the agent" in of(lines, "certificate")[1]

        code, status, lines = look(tmp_path, url=daemon.url)
        assert (code, status) == (0, "ok")
        assert list(lines) == ["name", "tcp", "livez", "readyz", "health", "websocket", "clip"]
        assert "打开客厅的灯" in of(lines, "clip")[1]

        code, status, lines = look(tmp_path, url=f"https://localhost:{ports[1]}")
        assert (code, status) == (0, "warning")
        assert of(lines, "certificate")[0] == "warning"
        assert "SHA-256" in of(lines, "certificate")[1]
        assert of(lines, "clip")[0] == "ok"


@contextmanager
def silent_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as link:
        held = []

        def serve() -> None:
            while True:
                try:
                    held.append(link.accept()[0])
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield link.getsockname()[1]
        link.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_server_that_hangs_is_a_failure_in_time(tmp_path: Path) -> None:
    with silent_server() as port:
        started = time.monotonic()
        code, _, lines = look(tmp_path, url=f"http://127.0.0.1:{port}")
        took_s = time.monotonic() - started
    assert code == 1
    assert took_s < 30
    assert list(lines) == ["name", "tcp", "livez"]
    assert "gives no answer in 6 s" in of(lines, "livez")[1]


def test_a_url_that_is_none_is_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "--url", "ftp://box")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ftp:// is not http, https, ws or wss" in done.stderr
