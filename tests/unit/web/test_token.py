"""The token, its cookies, and how often one may guess."""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

import pytest

from agent.web.throttle import Throttle
from agent.web.token import TokenError, TokenKeeper, new_token, read_token, write_token

ALICE, BOB = ipaddress.ip_address("192.168.1.5"), ipaddress.ip_address("192.168.1.6")


class Clock:
    def __init__(self) -> None:
        self.s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.s


def test_the_first_start_makes_a_token_that_only_its_owner_reads(tmp_path: Path) -> None:
    made = TokenKeeper.of(tmp_path / "state").token
    path = tmp_path / "state" / "token"
    assert path.read_text() == f"{made}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert TokenKeeper.of(tmp_path / "state").token == made
    assert len({new_token() for _ in range(100)}) == 100


def test_an_owner_s_own_token_is_taken_and_hidden_from_others(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("my.own~token_of-16\nnotes\n")
    path.chmod(0o644)
    assert read_token(tmp_path) == "my.own~token_of-16"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "\n", "   \nrest"])
def test_an_empty_file_is_no_token_yet(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    assert read_token(tmp_path) is None
    assert len(TokenKeeper.of(tmp_path).token) == 29


@pytest.mark.parametrize("text", ["short", "with spaces in its middle", "x" * 300, "schlüssel" * 3])
def test_a_token_that_is_none_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(TokenError, match="16 to 256") as raised:
        read_token(tmp_path)
    assert text not in raised.value.message


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(TokenError, match="can't be read"):
        read_token(tmp_path)
    with pytest.raises(TokenError, match="can't be written"):
        write_token(tmp_path, new_token())


def test_what_root_writes_belongs_to_the_folder_s_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(tmp_path, 4711, 4711)
    write_token(tmp_path, new_token())
    assert (tmp_path / "token").stat().st_uid == 4711


def test_only_the_token_itself_is_the_token() -> None:
    keeper = TokenKeeper("correct-horse-battery")
    assert keeper.is_token("correct-horse-battery")
    assert keeper.is_token(" correct-horse-battery\n")
    for wrong in ("", "correct-horse-batter", "correct-horse-battery2", "é", "\udcff"):
        assert not keeper.is_token(wrong)


def test_a_cookie_holds_until_it_expires_or_the_token_changes() -> None:
    clock = Clock()
    keeper = TokenKeeper("correct-horse-battery", clock)
    cookie = keeper.make_cookie(days=1)
    assert keeper.is_cookie(cookie)
    assert TokenKeeper("correct-horse-battery", clock).is_cookie(cookie)  # after a restart
    clock.s += 86_399
    assert keeper.is_cookie(cookie)
    clock.s += 2
    assert not keeper.is_cookie(cookie)
    fresh = keeper.make_cookie(days=1)
    assert keeper.use("another-horse-battery")
    assert not keeper.is_cookie(fresh)


def test_a_cookie_that_was_tampered_with_is_none() -> None:
    keeper = TokenKeeper("correct-horse-battery", Clock())
    expires, nonce, signature = keeper.make_cookie(days=1).split(".")
    later = str(int(expires) + 1)
    for wrong in (
        f"{later}.{nonce}.{signature}",
        f"{expires}.{nonce}.{signature[:-1]}",
        f"{expires}..{signature}",
        f".{signature}",
        "",
        "..",
        "é.é.é",
        "correct-horse-battery",
    ):
        assert not keeper.is_cookie(wrong)


def test_guesses_are_bounded_by_address_and_come_back_with_time() -> None:
    clock = Clock()
    throttle = Throttle(6, clock)
    for _ in range(6):
        assert throttle.wait_s(ALICE) == 0
        throttle.failed(ALICE)
    assert throttle.wait_s(ALICE) == 10
    assert throttle.wait_s(BOB) == 0
    clock.s += 9
    assert throttle.wait_s(ALICE) == 1
    clock.s += 1
    assert throttle.wait_s(ALICE) == 0
    clock.s += 3600
    throttle.failed(ALICE)
    assert throttle.wait_s(ALICE) == 0


def test_an_ipv6_host_can_not_guess_from_all_its_addresses() -> None:
    throttle = Throttle(1, Clock())
    throttle.failed(ipaddress.ip_address("2001:db8::1"))
    assert throttle.wait_s(ipaddress.ip_address("2001:db8::ffff:2")) > 0
    assert throttle.wait_s(ipaddress.ip_address("2001:db8:0:1::1")) == 0


def test_the_memory_of_guesses_is_bounded() -> None:
    throttle = Throttle(1, Clock())
    for number in range(5000):
        throttle.failed(ipaddress.ip_address(number))
    assert throttle.wait_s(ipaddress.ip_address(4999)) > 0
    assert throttle.wait_s(ipaddress.ip_address(0)) == 0
