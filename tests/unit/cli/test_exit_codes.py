"""Errors of commands become messages and exit codes."""

from __future__ import annotations

import argparse

import pytest

import agent.cli
from agent.errors import ConfigError, ConfigProblem, ModelLoadError, NotReady, Overloaded


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ConfigError([ConfigProblem("listen.0.port", "is taken")]), 78, "listen.0.port: is taken"),
        (Overloaded("full"), 75, "full"),
        (NotReady("still starting"), 75, "still starting"),
        (ModelLoadError("broken", file="a.onnx"), 1, "a.onnx: broken"),
        (OSError(13, "Permission denied"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_has_its_exit_code(
    error: BaseException,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(agent.cli, "_dispatch", fail)
    assert agent.cli.main(["config", "schema"]) == status
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
