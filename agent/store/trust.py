"""Ed25519 signatures of manifests: a manifest names every file by hash, so it is all that is
signed. The signature is the raw 64 bytes, as `openssl pkeyutl -sign -rawin` writes them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.errors import ModelError, SignatureError
from agent.store.disk import Disk
from agent.store.manifest import read_manifest
from agent.store.names import SIGNATURE_NAME

SIGNATURE_BYTES = 64

_MAX_KEY_FILE_BYTES = 64 << 10
_KEY_MODE = 0o600
_WRONG_KIND = "is not an Ed25519 key; make one with `funasr-agent models keygen`"


class TrustedKeys:
    """The public keys whose signatures count. With none, every manifest passes `check`."""

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, entries: Sequence[str]) -> TrustedKeys:
        """Read public keys. An entry is the path of a PEM file, or the base64 body of one.

        Raises ModelError naming the entry.
        """
        return cls([_inline_key(entry) or _public_key_file(Path(entry)) for entry in entries])

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A short name of each key: the first 16 hex digits of the SHA-256 of its DER form."""
        return tuple(_fingerprint(key) for key in self._keys)

    def check(self, manifest: bytes, signature: bytes | None, where: str) -> None:
        """Raises SignatureError unless one of the keys signed these bytes of manifest.yaml.

        `where` names the manifest in the message. With no keys nothing is checked.
        """
        if not self._keys:
            return
        if signature is None:
            wrong = f"is not signed ({SIGNATURE_NAME} is missing)"
        elif len(signature) != SIGNATURE_BYTES:
            wrong = (
                f"{SIGNATURE_NAME} has {len(signature)} bytes, "
                f"an Ed25519 signature has {SIGNATURE_BYTES}"
            )
        elif any(_verifies(key, signature, manifest) for key in self._keys):
            return
        else:
            wrong = "the signature is not by a trusted key, or the manifest was changed since"
        trusted = ", ".join(self.fingerprints)
        raise SignatureError(
            f"{wrong}; trusted keys (models.trusted_keys): {trusted}; "
            "sign it with `funasr-agent models sign` and a private key of these",
            file=where,
        )


def generate_key(private: Path, public: Path) -> None:
    """Make a key pair: PKCS8 PEM, mode 0600, and SubjectPublicKeyInfo PEM.

    Raises ModelError when a file is there already (it is never overwritten) or can't be written.
    """
    disk = Disk()
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise ModelError("exists already; choose another name or remove it", file=str(path))
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    open_part = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(disk, private, secret, mode=_KEY_MODE)
    try:
        _write_new(disk, public, open_part)
    except ModelError:
        disk.remove(private)
        raise


def fingerprint(public_key_file: Path) -> str:
    """Short name of the key in a PEM file, as the messages write it. Raises ModelError."""
    return _fingerprint(_public_key_file(public_key_file))


def sign(manifest_bytes: bytes, private_key_file: Path) -> bytes:
    """The 64 bytes of the signature. Raises ModelError when the key can't be used."""
    return _private_key(private_key_file).sign(manifest_bytes)


def sign_folder(folder: Path, key_file: Path) -> Path:
    """Sign `folder`/manifest.yaml; writes and returns manifest.yaml.sig beside it.

    Raises ManifestError (a manifest that no agent would read), ModelError (key, disk).
    """
    manifest = read_manifest(folder)
    target = folder / SIGNATURE_NAME
    signature = sign(manifest.data, key_file)
    try:
        Disk().write(target, signature)
    except OSError as error:
        raise ModelError(f"can't be written ({error.strerror})", file=str(target)) from None
    return target


def _verifies(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        return False
    return True


def _fingerprint(key: Ed25519PublicKey) -> str:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()[:16]


def _inline_key(entry: str) -> Ed25519PublicKey | None:
    """None when `entry` is not base64 of a key: then it is a path."""
    try:
        key = serialization.load_der_public_key(base64.b64decode(entry, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError(_WRONG_KIND, file=entry)
    return key


def _public_key_file(path: Path) -> Ed25519PublicKey:
    where = str(path)
    data = _read_key_file(path)
    if b"PRIVATE KEY-----" in data:
        raise ModelError(
            "holds a private key, which must not lie on a device; give the public key", file=where
        )
    if data.count(b"-----BEGIN") > 1:
        raise ModelError("holds several keys; write one file for each", file=where)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ModelError(
            "is not a public key in PEM form; `funasr-agent models keygen` makes one", file=where
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError(_WRONG_KIND, file=where)
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    where = str(path)
    data = _read_key_file(path)
    if b"PUBLIC KEY-----" in data and b"PRIVATE KEY-----" not in data:
        raise ModelError("is a public key; signing takes the private one", file=where)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise ModelError(
            "is encrypted; write it out without a passphrase first "
            "(`openssl pkey -in KEY -out PLAIN`)",
            file=where,
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ModelError(
            "is not a private key in PEM form; `funasr-agent models keygen` makes one", file=where
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(_WRONG_KIND, file=where)
    return key


def _read_key_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"can't be read ({reason}); give the path of a key in PEM form", file=str(path)
        ) from None
    if len(data) > _MAX_KEY_FILE_BYTES:
        raise ModelError("is too large for a key in PEM form", file=str(path))
    return data


def _write_new(disk: Disk, path: Path, data: bytes, mode: int = 0o644) -> None:
    try:
        with disk.create(path, mode) as file:
            file.write(data)
        disk.sync_folder(path.parent)
    except FileExistsError:
        raise ModelError("exists already; choose another name", file=str(path)) from None
    except OSError as error:
        with suppress(OSError):
            disk.remove(path)
        raise ModelError(f"can't be written ({error.strerror})", file=str(path)) from None
