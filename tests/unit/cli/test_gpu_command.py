"""`funasr-agent gpu`: says what is wrong and changes nothing then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from tests.unit.runtimes.made_wheels import make_wheel


def test_status_names_the_runtime_and_where_it_computes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "status", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["name"].startswith("onnxruntime")
    assert row["version"]
    assert row["providers"]["cpu"] == {"works": True, "reason": ""}
    assert row["providers"]["cuda"]["works"] or row["providers"]["cuda"]["reason"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["gpu"],
        ["gpu", "install"],
        ["gpu", "install", "--wheel", "a.whl", "--index-url", "http://127.0.0.1/"],
        ["gpu", "swap"],
    ],
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "usage: funasr-agent gpu" in capsys.readouterr().err


def test_a_missing_wheel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path)
    wheel.unlink()
    assert main(["gpu", "install", "--wheel", str(wheel)]) == 1
    assert f"funasr-agent: {wheel}: can't be read: No such file" in capsys.readouterr().err


def test_a_wheel_for_another_python_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = make_wheel(tmp_path, tag="cp39-cp39-linux_aarch64")
    assert main(["gpu", "install", "--wheel", str(wheel)]) == 1
    said = capsys.readouterr().err
    assert "is made for another Python (cp39-cp39)" in said
    assert "Traceback" not in said
