"""Disk, clock, name and service: each fault in turn."""

from __future__ import annotations

import datetime
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Config, Listener
from agent.doctor.box import Box, Outcome
from agent.doctor.clock import build_time, check_clock
from agent.doctor.disk import Space, check_disk, timed_write
from agent.doctor.lan import check_name
from agent.doctor.service import check_service
from tests.unit.doctor.boxes import answering, box_of, line

# Disk.

ROOM = Space(free_mb=9000, total_mb=30000, is_read_only=False, has_names_left=True)


def test_a_healthy_disk_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    status, seen, _ = line(check_disk(tmp_path, lambda folder: ROOM))
    assert status == "ok"
    assert "a synced write took" in seen
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_is_not_made_yet_is_fine_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    status, seen, _ = line(check_disk(folder, lambda folder: ROOM))
    assert (status, f"{folder} is made at the first start" in seen) == ("ok", True)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("space", "status", "words"),
    [
        (replace(ROOM, free_mb=900), "warning", "little room"),
        (replace(ROOM, free_mb=50), "failure", "the disk is full"),
        (replace(ROOM, is_read_only=True), "failure", "read-only file system"),
        (replace(ROOM, has_names_left=False), "failure", "no inodes left"),
    ],
)
def test_a_disk_without_room_is_told(tmp_path: Path, space: Space, status: str, words: str) -> None:
    found = line(check_disk(tmp_path, lambda folder: space))
    assert found[0] == status
    assert words in found[1]
    assert found[2]


@pytest.mark.parametrize(
    ("number", "words", "advice"),
    [
        (errno.ENOSPC, "no space left", "make room"),
        (errno.EACCES, "permission denied", "as user "),
        (errno.EROFS, "read-only", "healthy disk"),
        (errno.EIO, "input/output error", "dmesg"),
    ],
)
def test_a_write_that_fails_is_told(tmp_path: Path, number: int, words: str, advice: str) -> None:
    def write(folder: Path) -> float:
        raise OSError(number, os.strerror(number))

    status, seen, todo = line(check_disk(tmp_path, lambda folder: ROOM, write))
    assert status == "failure"
    assert words in seen
    assert advice in todo


def test_a_slow_disk_and_an_open_folder_are_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    status, seen, advice = line(check_disk(tmp_path, lambda folder: ROOM, lambda folder: 5.0))
    assert status == "warning"
    assert "writing is very slow" in seen
    assert f"everyone may write to {tmp_path}" in seen
    assert "chmod o-w" in advice


def test_a_file_in_place_of_the_state_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, seen, _ = line(check_disk(tmp_path / "file" / "state"))
    assert (status, "is not a folder" in seen) == ("failure", True)


def test_the_write_test_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        timed_write(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


# Clock.


def at(box: Box, year: int) -> Box:
    seconds = datetime.datetime(year, 5, 1, tzinfo=datetime.timezone.utc).timestamp()
    return replace(box, now=lambda: seconds)


def built() -> float:
    return datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc).timestamp()


def test_a_clock_before_the_build_is_a_failure(tmp_path: Path) -> None:
    status, seen, advice = line(check_clock(at(box_of(tmp_path), 1970), built))
    assert status == "failure"
    assert "1970-05-01 00:00 UTC is before this software was made (2026-01-01" in seen
    assert "no real-time clock" in seen
    assert "real-time clock" in advice


def test_the_newest_file_dates_the_build(tmp_path: Path) -> None:
    for name, seconds in (("a.py", 100.0), ("sub/b.py", 300.0), ("c.py", 200.0)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        os.utime(path, (seconds, seconds))
    assert build_time(tmp_path) == 300.0
    assert build_time() > 0


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("NTPSynchronized=yes\n", "ok", "set by the network"),
        ("NTPSynchronized=no\n", "warning", "not set by the network"),
        ("", "ok", "not known"),
    ],
)
def test_a_clock_that_no_network_sets_is_only_a_warning(
    tmp_path: Path, said: str, status: str, words: str
) -> None:
    box = answering(box_of(tmp_path), {"timedatectl": Outcome(0, stdout=said)})
    found = line(check_clock(at(box, 2027), built))
    assert found[0] == status
    assert words in found[1]


def test_systemds_mark_says_that_the_network_set_it(tmp_path: Path) -> None:
    box = box_of(tmp_path, {"run/systemd/timesync/synchronized": ""})
    assert "set by the network" in line(check_clock(at(box, 2027), built))[1]


# Name.

LAN = Config(listen=[Listener(host="0.0.0.0", port=8080)], auth="open")


def test_a_box_for_itself_needs_no_name(tmp_path: Path) -> None:
    found = check_name(Config(), box_of(tmp_path), "box", lambda name: [], lambda: [])
    status, seen, _ = line(found)
    assert (status, "only this box itself is served" in seen) == ("ok", True)


@pytest.mark.parametrize(
    ("host", "addresses", "resolves", "avahi", "status", "words"),
    [
        ("box.lan", ["192.0.2.7"], ["192.0.2.7"], False, "ok", "box.local resolves"),
        ("box", ["192.0.2.7"], [], True, "ok", "told to the network by avahi"),
        ("box", ["192.0.2.7"], [], False, "warning", "box.local does not resolve"),
        ("localhost", ["192.0.2.7"], [], False, "warning", "no name of its own"),
        ("box", [], [], False, "warning", "no address on a network"),
    ],
)
def test_a_box_that_can_not_be_found_on_the_network_is_told(
    tmp_path: Path,
    host: str,
    addresses: list[str],
    resolves: list[str],
    avahi: bool,
    status: str,
    words: str,
) -> None:
    box = box_of(tmp_path, {"run/avahi-daemon/pid": "1"} if avahi else {})
    found = line(check_name(LAN, box, host, lambda name: resolves, lambda: addresses))
    assert found[0] == status
    assert words in found[1]


# Service.

SYSTEMD = {"proc/1/comm": "systemd\n", "run/systemd/system/x": ""}


def service_line(root: Path, said: str, code: int = 0, err: str = "") -> tuple[str, str, str]:
    box = answering(box_of(root, SYSTEMD), {"systemctl": Outcome(code, said, err)})
    return line(check_service(box))


def test_without_systemd_there_is_no_line(tmp_path: Path) -> None:
    assert check_service(box_of(tmp_path, {"proc/1/comm": "tini\n"})) == []


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("LoadState=not-found", "ok", "not installed"),
        ("ActiveState=active\nSubState=running\nNRestarts=0", "ok", "active (running)"),
        ("ActiveState=active\nSubState=running\nNRestarts=4", "warning", "restarted 4 times"),
        ("ActiveState=failed\nResult=exit-code\nNRestarts=5", "failure", "failed: exit-code"),
        ("ActiveState=inactive\nSubState=dead", "warning", "inactive (dead)"),
        ("ActiveState=active\nUnitFileState=disabled", "warning", "not started at the next boot"),
        ("LoadState=bad-setting", "failure", "can't be loaded"),
    ],
)
def test_the_state_of_the_service_is_told(
    tmp_path: Path, state: str, status: str, words: str
) -> None:
    text = state if state.startswith("LoadState") else f"LoadState=loaded\n{state}"
    found = service_line(tmp_path, text + "\n")
    assert found[0] == status
    assert words in found[1]
    assert bool(found[2]) == (status != "ok")


def test_a_systemd_that_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    status, seen, _ = service_line(tmp_path, "", 1, "Failed to connect to bus\n")
    assert (status, "Failed to connect to bus" in seen) == ("warning", True)
