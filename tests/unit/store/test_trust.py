"""Signatures of manifests: which keys are read, what is refused, and that openssl agrees."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ManifestError, ModelError, SignatureError
from agent.store.manifest import read_manifest
from agent.store.trust import TrustedKeys, fingerprint, generate_key, sign, sign_folder
from tests.unit.store.test_bundle import model_folder

MANIFEST = b"schema: 1\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pairs one.key/one.pem and two.key/two.pem."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "two"):
        generate_key(folder / f"{name}.key", folder / f"{name}.pem")
    return folder


def body(pem: Path) -> str:
    return "".join(line for line in pem.read_text().splitlines() if "-----" not in line)


def test_a_signature_by_a_trusted_key_passes(keys: Path) -> None:
    signature = sign(MANIFEST, keys / "one.key")
    assert len(signature) == 64
    trusted = TrustedKeys.load([str(keys / "two.pem"), str(keys / "one.pem")])
    assert trusted
    trusted.check(MANIFEST, signature, "m")


def test_the_base64_body_of_a_key_is_a_key(keys: Path) -> None:
    trusted = TrustedKeys.load([body(keys / "one.pem")])
    trusted.check(MANIFEST, sign(MANIFEST, keys / "one.key"), "m")
    assert trusted.fingerprints == (fingerprint(keys / "one.pem"),)


def test_with_no_keys_nothing_is_checked() -> None:
    trusted = TrustedKeys.load([])
    assert not trusted
    trusted.check(MANIFEST, None, "m")


@pytest.mark.parametrize(
    ("signature_of", "reason"),
    [
        (lambda good, other: None, r"is not signed \(manifest\.yaml\.sig is missing\)"),
        (lambda good, other: b"", r"manifest\.yaml\.sig has 0 bytes, .* has 64"),
        (lambda good, other: good + b"\n", r"has 65 bytes"),
        (lambda good, other: other, r"the signature is not by a trusted key"),
        (lambda good, other: bytes([good[0] ^ 1]) + good[1:], r"not by a trusted key"),
    ],
    ids=["unsigned", "empty", "too long", "of another key", "flipped bit"],
)
def test_a_wrong_signature_is_refused_with_the_keys_that_count(
    keys: Path, signature_of: Callable[[bytes, bytes], bytes | None], reason: str
) -> None:
    good, other = (sign(MANIFEST, keys / name) for name in ("one.key", "two.key"))
    trusted = TrustedKeys.load([str(keys / "one.pem")])
    with pytest.raises(SignatureError, match=reason) as caught:
        trusted.check(MANIFEST, signature_of(good, other), "zh/manifest.yaml")
    assert caught.value.file == "zh/manifest.yaml"
    assert fingerprint(keys / "one.pem") in caught.value.message
    assert "funasr-agent models sign" in caught.value.message


@given(at=st.integers(0, len(MANIFEST) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_manifest_breaks_the_signature(keys: Path, at: int, bit: int) -> None:
    changed = bytearray(MANIFEST)
    changed[at] ^= 1 << bit
    trusted = TrustedKeys.load([str(keys / "one.pem")])
    with pytest.raises(SignatureError):
        trusted.check(bytes(changed), sign(MANIFEST, keys / "one.key"), "m")


def test_a_private_key_is_only_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pem"
    generate_key(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    for other in ((private, tmp_path / "b.pem"), (tmp_path / "b.key", public)):
        with pytest.raises(ModelError, match="exists already"):
            generate_key(*other)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.key", "a.pem"]


def test_no_half_pair_stays_when_a_key_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't be written \(No such file"):
        generate_key(tmp_path / "a.key", tmp_path / "missing" / "a.pem")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_none_is_refused_by_its_name(keys: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("hello")
    several = tmp_path / "several.pem"
    several.write_bytes((keys / "one.pem").read_bytes() * 2)
    huge = tmp_path / "huge.pem"
    huge.write_bytes(bytes(1 << 20))
    for entry, reason in (
        (tmp_path / "absent.pem", r"can't be read \(No such file"),
        (tmp_path, r"can't be read \(Is a directory"),
        (text, "is not a public key in PEM form"),
        (keys / "one.key", "holds a private key"),
        (several, "holds several keys"),
        (huge, "is too large"),
        (Path("nul\0byte"), "can't be read"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            TrustedKeys.load([str(entry)])
        assert caught.value.file == str(entry)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "ec.key", tmp_path / "ec.pem"
    private.write_bytes(pem_of(key, serialization.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    for entry in (str(public), body(public)):
        with pytest.raises(ModelError, match="is not an Ed25519 key"):
            TrustedKeys.load([entry])
    with pytest.raises(ModelError, match="is not an Ed25519 key"):
        sign(MANIFEST, private)


def test_a_key_that_can_not_sign_says_why(keys: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    secret = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(pem_of(Ed25519PrivateKey.generate(), secret))
    text = tmp_path / "text.key"
    text.write_text("hello")
    for key, reason in (
        (locked, "is encrypted; .*openssl pkey"),
        (text, "is not a private key in PEM form"),
        (keys / "one.pem", "is a public key"),
        (tmp_path / "absent", "can't be read"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            sign(MANIFEST, key)
        assert caught.value.file == str(key)


def test_a_folder_is_signed_beside_its_manifest(keys: Path, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "zh", {"a": b"1"})
    trusted = TrustedKeys.load([str(keys / "two.pem")])
    for name in ("one.key", "two.key"):
        written = sign_folder(folder, keys / name)
    assert written == folder / "manifest.yaml.sig"
    trusted.check(read_manifest(folder).data, written.read_bytes(), "m")
    assert sorted(p.name for p in folder.iterdir()) == ["a", "manifest.yaml", "manifest.yaml.sig"]


def test_a_manifest_that_no_agent_reads_is_not_signed(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text("schema: 9")
    with pytest.raises(ManifestError, match="schema is 9"):
        sign_folder(tmp_path, keys / "one.key")
    assert not (tmp_path / "manifest.yaml.sig").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")
def test_openssl_signs_and_verifies_the_same(keys: Path, tmp_path: Path) -> None:
    manifest, mine, theirs = (tmp_path / name for name in ("manifest", "mine.sig", "theirs.sig"))
    manifest.write_bytes(MANIFEST)
    mine.write_bytes(sign(MANIFEST, keys / "one.key"))
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", keys / "one.key", "-in", manifest,
            "-out", theirs)  # fmt: skip
    assert theirs.read_bytes() == mine.read_bytes()
    openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys / "one.pem", "-in", manifest,
            "-sigfile", mine)  # fmt: skip
    made, public = tmp_path / "made.key", tmp_path / "made.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", made)
    openssl("pkey", "-in", made, "-pubout", "-out", public)
    TrustedKeys.load([str(public)]).check(MANIFEST, sign(MANIFEST, made), "m")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


def pem_of(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: serialization.KeySerializationEncryption,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
