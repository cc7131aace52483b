"""`funasr-agent token` without a running agent, and what `config show` keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main
from agent.store.lock import StoreLock


def state(folder: Path) -> list[str]:
    return ["--set", f"state_dir={folder}"]


def test_before_the_first_start_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "show", *state(tmp_path)]) == 1
    assert "there is no token yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_rotate_makes_one_and_show_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "rotate", *state(tmp_path)]) == 0
    made = capsys.readouterr().out.strip()
    assert main(["token", "show", *state(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == made == (tmp_path / "token").read_text().strip()
    assert main(["token", "rotate", *state(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() != made


def test_two_do_not_rotate_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StoreLock(tmp_path):
        assert main(["token", "rotate", *state(tmp_path)]) == 75
    assert not (tmp_path / "token").exists()


def test_show_says_what_is_wrong_with_a_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("too short\n")
    assert main(["token", "show", *state(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "16 to 256" in error
    assert "too short" not in error


def test_config_show_hides_passwords_in_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    mirror = "https://me:hunter2@mirror.example/{name}/{revision}/{file}?access_token=hunter3&x=1"
    assert main(["config", "show", "--set", f"models.mirror={mirror}"]) == 0
    shown = capsys.readouterr().out
    assert "hunter" not in shown
    assert "https://***@mirror.example/" in shown
    assert "?access_token=***&x=1" in shown
