"""What stands above the login."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from agent.web.tls import make_certificate
from scripts.image.device.console import text


def test_a_box_that_has_nothing_yet_shows_nothing(tmp_path: Path) -> None:
    assert text(tmp_path) == ""


def test_access_code_and_fingerprint_are_shown(tmp_path: Path) -> None:
    certificate, _key = make_certificate("box", ["127.0.0.1"])
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/cert.pem").write_bytes(certificate)
    (tmp_path / "token").write_text("0123456789abcdef\n")
    first = x509.load_pem_x509_certificates(certificate)[0]
    lines = text(tmp_path).splitlines()
    assert lines[0].split() == ["Access", "code", "0123456789abcdef"]
    shown = lines[1].partition("SHA-256 ")[2].replace(" ", "")
    assert shown == first.fingerprint(hashes.SHA256()).hex().upper()


@pytest.mark.parametrize("token", ["", "\x1b[2J0123456789", "back\\slash\\n", "a b c d e f g h"])
def test_nothing_that_a_terminal_obeys_is_shown(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    assert text(tmp_path) == ""


def test_a_damaged_certificate_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/cert.pem").write_text("half")
    assert text(tmp_path) == ""
