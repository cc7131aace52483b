"""No check raises, none hangs; the report is as the contract says."""

from __future__ import annotations

import io
import json
import sys
import threading
import time

import pytest

from agent.doctor.box import run_command
from agent.doctor.report import Report, Status, failure, ok, warning
from agent.doctor.running import Once, Probe, run_probe
from agent.doctor.show import Screen, clean


def test_a_check_that_raises_becomes_a_failure_with_its_message() -> None:
    def broken() -> list[object]:
        raise ZeroDivisionError("no divisor")

    (line,) = run_probe(Probe("odd", broken))  # type: ignore[arg-type]
    assert (line.name, line.status) == ("odd", Status.FAILURE)
    assert line.seen == "the check itself failed: ZeroDivisionError: no divisor"
    assert line.advice


def test_a_check_that_hangs_is_given_up_and_the_next_one_runs() -> None:
    release = threading.Event()
    started = time.monotonic()
    (line,) = run_probe(Probe("stuck", lambda: [ok("x", str(release.wait(30)))], limit_s=0.1))
    assert "did not end within 0.1 s" in line.seen
    assert time.monotonic() - started < 5
    assert run_probe(Probe("next", lambda: [ok("next", "fine")])) == [ok("next", "fine")]
    release.set()


def test_what_was_found_out_once_is_kept_with_its_error() -> None:
    calls = []

    def find() -> int:
        calls.append(1)
        raise OSError("gone")

    once = Once(find)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            once.get()
    assert len(calls) == 1
    assert once.known() is None


def test_what_hangs_for_one_check_is_not_waited_for_by_the_next() -> None:
    release = threading.Event()
    once = Once(lambda: release.wait(30))
    (first,) = run_probe(Probe("first", lambda: [ok("first", str(once.get()))], limit_s=0.1))
    (second,) = run_probe(Probe("second", lambda: [ok("second", str(once.get()))], limit_s=5))
    release.set()
    assert "did not end" in first.seen
    assert "an earlier check" in second.seen


def test_the_report_is_as_bad_as_its_worst_line() -> None:
    good, poor, bad = ok("a", "1"), warning("b", "2", "do"), failure("c", "3", "must")
    assert Report(()).status is Status.OK
    assert Report((good,)).status is Status.OK
    assert Report((good, poor)).status is Status.WARNING
    assert Report((good, bad, poor)).status is Status.FAILURE
    assert json.loads(json.dumps(Report((poor,)).to_json())) == {
        "status": "warning",
        "checks": [{"name": "b", "status": "warning", "seen": "2", "advice": "do"}],
    }


def test_lines_are_aligned_and_plain_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.show(ok("cpu", "fine"))
    screen.show(failure("model vad", "one\ntwo", "do this"))
    screen.sum_up(Report((ok("cpu", ""), failure("model vad", "", ""))))
    assert out.getvalue().splitlines() == [
        "ok       cpu                fine",
        "FAILURE  model vad          one",
        "                            two",
        "                            -> do this",
        "2 checks: 1 ok, 0 warnings, 1 failure",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_and_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    Screen(out).show(failure("disk", "full [bold]indeed[/bold]", "make room"))
    text = out.getvalue()
    assert "\x1b[1;31mFAILURE" in text
    assert "full [bold]indeed[/bold]" in text
    assert "make room" in text


def test_words_from_outside_can_not_steer_the_terminal() -> None:
    out = io.StringIO()
    Screen(out).show(warning("health", "\x1b[2Jgone\r\x9b1A \u202ereversed", "\x07"))
    assert not any(ord(char) < 32 and char != "\n" for char in out.getvalue())
    assert "\x9b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()
    assert clean("a\nb \udcff") == "a\nb \N{REPLACEMENT CHARACTER}"


def test_a_command_is_run_with_its_input_and_its_output_is_kept() -> None:
    code = "import sys; print(sys.stdin.read()); print('bad', file=sys.stderr); sys.exit(3)"
    outcome = run_command([sys.executable, "-c", code], timeout_s=20, stdin="hello")
    assert (outcome.code, outcome.timed_out) == (3, False)
    assert outcome.stdout.strip() == "hello"
    assert outcome.stderr.strip() == "bad"


def test_a_missing_command_is_an_outcome_and_not_an_exception() -> None:
    outcome = run_command(["/no/such/command"], timeout_s=5)
    assert (outcome.code, outcome.timed_out) == (None, False)
    assert outcome.stderr == "/no/such/command: no such file or directory"


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    outcome = run_command([sys.executable, "-c", code], timeout_s=2)
    assert outcome.timed_out
    assert outcome.code is None
    assert time.monotonic() - started < 20
    child = int(outcome.stdout)
    for _ in range(100):
        if not _lives(child):
            break
        time.sleep(0.05)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
