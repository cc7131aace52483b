"""The command line: exit codes, messages, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent import __version__
from agent.cli import main
from agent.config import Config


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config.yaml of the checkout and no environment of the developer."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("FUNASR_AGENT")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments], capture_output=True, text=True
    )


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"funasr-agent {__version__}\n"


def test_help_lists_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in ("serve", "transcribe", "config"):
        assert command in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["transcribe"],
        ["transcribe", "a.wav", "--format", "pdf"],
        ["config"],
        ["config", "burn"],
        ["serve", "extra"],
        ["--nonsense"],
    ],
)
def test_a_bad_command_line_is_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "usage:" in capsys.readouterr().err


def test_config_show_gives_yaml_that_loads_to_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["config", "show", "--set", "stream.resume_s=7"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# in force: defaults < --set stream.resume_s=7\n")
    (tmp_path / "config.yaml").write_text(shown)
    assert main(["config", "show"]) == 0
    again = capsys.readouterr().out
    assert yaml.safe_load(again) == yaml.safe_load(shown)
    assert yaml.safe_load(again)["stream"]["resume_s"] == 7


def test_config_check_names_its_sources(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("logging: {level: debug}")
    monkeypatch.setenv("FUNASR_AGENT__STREAM__PING_S", "5")
    assert main(["config", "check", "--config", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert said == "no problems (defaults < mine.yaml < FUNASR_AGENT__STREAM__PING_S)\n"


def test_every_configuration_problem_is_printed_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("listne: []\nstream: {resume_s: -1, ping: 3}\n")
    arguments = ["--config", "bad.yaml", "--set", "models.vda=[x]", "--set", "oops"]
    for command in (["config", "check"], ["config", "show"], ["serve"], ["transcribe", "a.wav"]):
        assert main([*command, *arguments]) == 78
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 5
        assert any("bad.yaml: listne: unknown key; did you mean listen?" in s for s in said)
        assert any("bad.yaml: stream.resume_s:" in s and "-1" in s for s in said)
        assert any("bad.yaml: stream.ping: unknown key; did you mean ping_s?" in s for s in said)
        assert any("--set: models.vda: unknown key; did you mean vad?" in s for s in said)
        assert any("oops: write it as KEY=VALUE" in s for s in said)


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe\x00\x01", b"- 1", b"a: 2001-99-99", b"[" * 5000, b"1: 2", b"? [a]\n: b"],
)
def test_a_file_that_is_no_configuration_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    assert main(["config", "check"]) == 78
    assert "config.yaml" in capsys.readouterr().err


def test_a_named_file_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", "gone.yaml"]) == 78
    assert "gone.yaml: can't be read: No such file" in capsys.readouterr().err


def test_config_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Config.model_fields)


def test_python_m_agent_is_the_same() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"funasr-agent {__version__}\n")


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m agent config schema | true; exit ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode in (0, 1)


def test_a_full_disk_is_an_error_without_a_traceback() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agent", "config", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
