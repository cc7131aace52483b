"""The settings file on the boot partition, as people write it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.image.device import settings
from scripts.image.device.settings import Settings, apply, parse, wpa_text

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBcB4zJ1bYtqzPsO6PxYTo1QmQzQeP4bN3gkq0m2D9aT me@desk"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A root with the agent's state folder."""
    (tmp_path / settings.STATE).mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    return tmp_path


class Commands:
    """Notes what would be run; those named in `failing` fail."""

    def __init__(self, *failing: str) -> None:
        self.ran: list[str] = []
        self._failing = failing

    def __call__(self, command: Sequence[str]) -> None:
        self.ran.append(" ".join(command))
        if command[0] in self._failing:
            raise subprocess.CalledProcessError(1, command)


def test_every_setting_is_read() -> None:
    text = f"""\
# a comment
hostname = Kitchen
wifi_ssid = My = Net
wifi_password = "quoted" words
wifi_country = DE
ssh_key = {KEY}
SSH_KEY={KEY}
token = 0123456789abcdef
read_only = Yes
"""
    assert parse(text.encode()) == (
        Settings(
            hostname="kitchen",
            wifi_ssid="My = Net",
            wifi_password='"quoted" words',
            wifi_country="DE",
            ssh_keys=(KEY, KEY),
            token="0123456789abcdef",
            read_only=True,
        ),
        [],
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_from_windows_is_read(encoding: str) -> None:
    found, problems = parse("hostname = box\r\nwifi_ssid = Büro\r\n".encode(encoding))
    assert (found.hostname, found.wifi_ssid, problems) == ("box", "Büro", [])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hostnme = box", "`hostnme` is no setting; did you mean hostname?"),
        ("volume = 11", "`volume` is no setting; known are hostname, "),
        ("hostname box", "no `=`; a setting is written `key = value`"),
        ("hostname =", "hostname is empty"),
        ("hostname = my box", "hostname: `my box` is no host name"),
        ("hostname = localhost", "every box's own name"),
        ("wifi_ssid = " + "x" * 33, "at most 32 bytes"),
        ("wifi_country = Germany", "two capital letters"),
        ("ssh_key = AAAA", "begins with its type"),
        ("ssh_key = ssh-ed25519 AAAA!", "the key is damaged"),
        (f"ssh_key = {KEY[:60]}", "the key is "),
        ("ssh_key = -----BEGIN OPENSSH PRIVATE KEY-----", "this is a private key"),
        ('ssh_key = command="x" ' + KEY, "begins with its type"),
        ("token = short", "16 to 128"),
        ("read_only = maybe", "`maybe` is neither yes nor no"),
    ],
)
def test_a_bad_value_is_told_with_its_line_and_the_rest_applies(line: str, told: str) -> None:
    found, problems = parse(f"{line}\nwifi_ssid = Net\n".encode())
    assert len(problems) == 1
    assert problems[0].startswith("line 1: ")
    assert told in problems[0]
    assert found.wifi_ssid == "Net"


def test_a_second_value_is_told_and_the_first_used() -> None:
    found, problems = parse(b"hostname = one\nhostname = two\n")
    assert found.hostname == "one"
    assert problems == ["line 2: hostname is set a second time; the first is used"]


def test_a_network_with_a_bad_password_is_not_joined_as_an_open_one() -> None:
    found, problems = parse(b"wifi_ssid = Net\nwifi_password = short\n")
    assert found.wifi_ssid is None
    assert len(problems) == 2


def test_a_password_without_a_network_is_told() -> None:
    assert parse(b"wifi_password = longenough\n")[1] == [
        "wifi_password has no effect without wifi_ssid"
    ]


def test_a_huge_file_is_not_used() -> None:
    found, problems = parse(b"hostname = box\n" + b"#" * settings.MAX_BYTES)
    assert found == Settings()
    assert "nothing of it was used" in problems[0]


def test_a_shown_value_carries_nothing_that_a_terminal_obeys() -> None:
    problems = parse(b"host\x1b[2J\\n = x\n")[1]
    assert "\x1b" not in problems[0]
    assert "\\" not in problems[0]


def test_the_host_name_is_set_once_and_the_certificate_made_anew(box: Path) -> None:
    tls = box / settings.STATE / "tls"
    tls.mkdir()
    run = Commands()
    assert apply(Settings(hostname="box"), box, run) == []
    assert (box / "etc/hostname").read_text() == "box\n"
    assert "127.0.1.1 box\n" in (box / "etc/hosts").read_text()
    assert not tls.exists()
    tls.mkdir()
    assert apply(Settings(hostname="box"), box, run) == []
    assert tls.exists()
    assert run.ran == ["hostname box"]


def test_wifi_is_for_its_owner_only_and_needs_no_quoting(box: Path) -> None:
    run = Commands()
    apply(Settings(wifi_ssid='a"b', wifi_password='pass"word', wifi_country="DE"), box, run)
    path = box / settings.WPA
    assert path.stat().st_mode & 0o777 == 0o600
    assert "ssid=612262\n" in path.read_text()
    assert 'psk="pass"word"\n' in path.read_text()
    assert f"systemctl enable {settings.WPA_UNIT}" in run.ran


def test_a_network_without_password_is_open_and_a_key_is_not_quoted() -> None:
    assert "key_mgmt=NONE" in wpa_text(Settings(wifi_ssid="Net"))
    assert f"psk={'0' * 64}\n" in wpa_text(Settings(wifi_ssid="Net", wifi_password="0" * 64))


def test_where_network_manager_is_it_keeps_the_wifi(box: Path) -> None:
    folder = box / settings.NETWORK_MANAGER
    folder.mkdir(parents=True)
    apply(Settings(wifi_ssid="AB", wifi_password="back\\slash"), box, Commands())
    path = folder / "funasr-agent.nmconnection"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "ssid=65;66;\n" in path.read_text()
    assert "psk=back\\\\slash\n" in path.read_text()
    assert not (box / settings.WPA).exists()


def test_keys_follow_the_file(box: Path) -> None:
    apply(Settings(ssh_keys=(KEY,)), box, Commands())
    assert (box / settings.KEYS).read_text() == f"{KEY}\n"
    apply(Settings(), box, Commands())
    assert not (box / settings.KEYS).exists()


def test_the_token_belongs_to_the_agent_alone(box: Path) -> None:
    apply(Settings(token="0123456789abcdef"), box, Commands())
    path = box / settings.STATE / "token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_uid == (box / settings.STATE).stat().st_uid


def test_one_setting_that_fails_keeps_no_other_up(box: Path) -> None:
    problems = apply(Settings(hostname="box", ssh_keys=(KEY,)), box, Commands("hostname"))
    assert len(problems) == 1
    assert problems[0].startswith("hostname could not be set: ")
    assert (box / settings.KEYS).exists()


def test_read_only_takes_effect_by_one_restart(box: Path) -> None:
    run = Commands()
    assert apply(Settings(read_only=True), box, run) == []
    assert (box / settings.READ_ONLY).exists()
    assert run.ran == ["systemctl reboot --no-block"]


def test_an_overlay_that_does_not_come_up_restarts_the_box_no_second_time(box: Path) -> None:
    run = Commands()
    apply(Settings(read_only=True), box, run)
    problems = apply(Settings(read_only=True), box, run)
    assert len(run.ran) == 1
    assert problems[0].startswith("read_only could not be set")


def test_under_the_overlay_nothing_restarts_and_the_way_back_is_written_below_it(box: Path) -> None:
    lower = box / settings.LOWER
    (lower / "etc/funasr-image").mkdir(parents=True)
    (lower / settings.READ_ONLY).touch()
    run = Commands()
    assert apply(Settings(read_only=True), box, run) == []
    assert run.ran == []
    assert apply(Settings(read_only=False), box, run) == []
    assert not (lower / settings.READ_ONLY).exists()
    assert run.ran == ["systemctl reboot --no-block"]
