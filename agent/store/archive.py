"""Reads a bundle into a staging folder: one pass over a stream that can't be seeked, in flat
memory. Everything that a bundle of models does not need is refused."""

from __future__ import annotations

import errno
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO, cast

from agent.errors import AgentError, BundleError, BundleTooLarge, NoSpace
from agent.store.bundle import (
    END_BYTES,
    MAX_MEMBERS,
    MAX_NAME_BYTES,
    MAX_SIGNATURE_BYTES,
    REMAKE,
    SUMS_NAME,
    MemberNames,
    refused_name,
    shown,
)
from agent.store.disk import Disk, require_space
from agent.store.manifest import ListedFile
from agent.store.names import MANIFEST_NAME, SIGNATURE_NAME
from agent.store.safe_open import BLOCK, COPY_AGAIN, Source, open_stream
from agent.store.strict_yaml import MAX_MANIFEST_BYTES

MAX_HEADER_BYTES = 8 << 10
"""Of one member. tarfile holds them in memory, and some versions search them in quadratic time."""
MAX_PADDING_BYTES = 1 << 20
"""Zeros after the last member."""

_MAX_SUMS_BYTES = MAX_MEMBERS * (MAX_NAME_BYTES + 80)
_OVERHEAD_BYTES = MAX_MEMBERS * (MAX_HEADER_BYTES + tarfile.BLOCKSIZE) + MAX_PADDING_BYTES
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_HEADER_ERRORS = (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError)
"""What tarfile raises on headers that are damaged, or made to confuse it."""


@dataclass(frozen=True)
class UnpackedModel:
    """A model in the staging folder. Its bytes are those of the bundle; nothing is proven yet."""

    id: str
    folder: Path
    manifest_sha256: str
    hashes: Mapping[str, ListedFile]
    """Size and SHA-256 of each file, found while it was written; not of the manifest and its
    signature."""


def unpack(
    stream: BinaryIO,
    staging: Path,
    *,
    disk: Disk,
    max_bytes: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[UnpackedModel, ...]:
    """Unpack the bundle (.tar, or .tar.zst) that `stream` gives into the folder `staging`.

    `max_bytes` bounds the unpacked size; `progress` gets the bytes read from the stream so far.
    Raises BundleError (malformed, hostile, cut off, too large), NoSpace, and AgentError when the
    disk fails; what is written by then is left to the caller to remove.
    """
    source = open_stream(stream, max_bytes + _OVERHEAD_BYTES, progress)
    unpacker = _Unpacker(staging, disk, max_bytes)
    for member, data in _members(_Blocks(source)):
        unpacker.take(member, data)
    return unpacker.finish()


@contextmanager
def disk_errors_told(where: Path) -> Iterator[None]:
    """Turns an OSError into NoSpace, or into an AgentError that says what to look at."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"{where}: the disk is full; remove models that are not used, or files that are "
                "not the agent's"
            ) from error
        raise AgentError(
            f"{where}: can't be written ({error.strerror or error}); "
            "check the disk and the owner of the state folder"
        ) from error


class _Unpacker:
    """Judges one member after the other and writes what passes."""

    def __init__(self, staging: Path, disk: Disk, max_bytes: int) -> None:
        self._staging = staging
        self._disk = disk
        self._max_bytes = max_bytes
        self._members = 0
        self._bytes = 0
        self._names = MemberNames()
        self._written: dict[str, ListedFile] = {}
        self._sums: dict[str, str] | None = None

    def take(self, member: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        """`data` is None for what is no file."""
        name = member.name.removeprefix("./")
        self._members += 1
        if self._members > MAX_MEMBERS + 1:
            raise BundleError(f"the bundle has more than {MAX_MEMBERS} files and folders")
        if member.isdir() and name in ("", "."):
            return
        self._judge(name, member)
        self._names.add(name, is_folder=member.isdir())
        if data is None:
            with disk_errors_told(self._staging / name):
                self._disk.make_folder(self._staging / name)
        elif name == SUMS_NAME:
            self._sums = _parse_sums(b"".join(self._blocks(name, member, data)))
        else:
            self._written[name] = self._write(name, member, data)

    def finish(self) -> tuple[UnpackedModel, ...]:
        """The models in the order in which they came. Raises BundleError when one is not whole."""
        if not self._written:
            raise BundleError(f"the bundle holds no model; {REMAKE}")
        self._compare_sums()
        models: dict[str, dict[str, ListedFile]] = {}
        for name, found in self._written.items():
            model_id, _, inner = name.partition("/")
            models.setdefault(model_id, {})[inner] = found
        unpacked = []
        for model_id, files in models.items():
            manifest = files.pop(MANIFEST_NAME, None)
            files.pop(SIGNATURE_NAME, None)
            if manifest is None:
                raise BundleError(f"is missing; {REMAKE}", file=f"{model_id}/{MANIFEST_NAME}")
            folder = self._staging / model_id
            unpacked.append(UnpackedModel(model_id, folder, manifest.sha256, files))
        return tuple(unpacked)

    def _judge(self, name: str, member: tarfile.TarInfo) -> None:
        """Raises BundleError for a member whose kind, name or size is refused."""

        def refuse(reason: str) -> BundleError:
            return BundleError(f"{reason}; {REMAKE}", file=shown(name) or "a member without a name")

        if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
            raise refuse(f"is {_KINDS.get(member.type, 'neither a file nor a folder')}")
        if member.issparse() or any(key.startswith("GNU.sparse") for key in member.pax_headers):
            raise refuse("is a sparse file")
        reason = refused_name(name, is_folder=member.isdir())
        if reason and (name != SUMS_NAME or member.isdir()):
            raise refuse(reason)
        if not 0 <= member.size <= _limit_of(name):
            raise refuse(f"has {member.size} bytes, at most {_limit_of(name)} are allowed")
        if self._bytes + member.size > self._max_bytes:
            raise BundleTooLarge(
                f"the bundle is larger than {self._max_bytes / 1e6:.0f} MB unpacked; "
                "raise models.max_bundle_mb if that is meant",
                file=shown(name),
            )

    def _write(self, name: str, member: tarfile.TarInfo, data: IO[bytes]) -> ListedFile:
        path = self._staging / name
        digest = sha256()
        with disk_errors_told(path):
            require_space(self._staging, member.size)
            self._disk.make_folder(path.parent)
            with self._disk.create(path) as file:
                for block in self._blocks(name, member, data):
                    digest.update(block)
                    file.write(block)
        return ListedFile(member.size, digest.hexdigest())

    def _blocks(self, name: str, member: tarfile.TarInfo, data: IO[bytes]) -> Iterator[bytes]:
        """The member's data, exactly as much as its header says and never above the limit."""
        left = member.size
        while True:
            try:
                block = data.read(BLOCK)
            except _HEADER_ERRORS as error:
                raise BundleError(
                    f"is cut off inside it ({error}); {COPY_AGAIN}", file=shown(name)
                ) from None
            left -= len(block)
            self._bytes += len(block)
            if left < 0 or self._bytes > self._max_bytes:
                raise BundleError(f"has more data than its header says; {REMAKE}", file=shown(name))
            if not block:
                break
            yield block
        if left:
            raise BundleError(f"the bundle is cut off inside it; {COPY_AGAIN}", file=shown(name))

    def _compare_sums(self) -> None:
        if self._sums is None:
            raise BundleError(f"is missing, the bundle is not whole; {COPY_AGAIN}", file=SUMS_NAME)
        for name, found in self._written.items():
            listed = self._sums.get(name)
            if listed is None:
                raise BundleError(f"{SUMS_NAME} does not list it; {REMAKE}", file=shown(name))
            if listed != found.sha256:
                raise BundleError(
                    f"sha256 is {found.sha256[:8]}..., {SUMS_NAME} says {listed[:8]}...; "
                    f"{COPY_AGAIN}",
                    file=shown(name),
                )
        if missing := [name for name in self._sums if name not in self._written]:
            raise BundleError(
                f"{SUMS_NAME} lists it, the bundle lacks it; {REMAKE}", file=shown(missing[0])
            )


def _limit_of(name: str) -> int:
    """Most bytes of a member that is read into memory; of others no limit but the bundle's."""
    inner = name.partition("/")[2]
    if name == SUMS_NAME:
        return _MAX_SUMS_BYTES
    limits = {MANIFEST_NAME: MAX_MANIFEST_BYTES, SIGNATURE_NAME: MAX_SIGNATURE_BYTES}
    return limits.get(inner, 1 << 62)


def _parse_sums(data: bytes) -> dict[str, str]:
    """Name -> lower-case SHA-256, from the text that `sha256sum` writes. Raises BundleError."""
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise BundleError(f"is not UTF-8 text; {REMAKE}", file=SUMS_NAME) from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        match = _SUMS_LINE.fullmatch(line.removesuffix("\r"))
        if match is None or match[2] in sums:
            what = "is not `<sha256>  <path>`" if match is None else "repeats a path"
            raise BundleError(f"line {number} {what}; {REMAKE}", file=SUMS_NAME)
        sums[match[2]] = match[1].lower()
    return sums


def _members(blocks: _Blocks) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member with its data (None for what is no file). Raises BundleError."""
    last = "its start"
    with _open_tar(blocks) as tar:
        while True:
            try:
                member = tar.next()
                data = tar.extractfile(member) if member is not None and member.isreg() else None
            except _HEADER_ERRORS as error:
                raise BundleError(
                    f"the bundle is damaged after {last} ({error}); {COPY_AGAIN}"
                ) from None
            if member is None:
                blocks.check_end(last)
                return
            last = shown(member.name)
            blocks.expect_data(member.size if data is not None else 0)
            yield member, data


def _open_tar(blocks: _Blocks) -> tarfile.TarFile:
    try:
        return tarfile.open(
            fileobj=cast("BinaryIO", blocks),
            mode="r|",
            bufsize=BLOCK,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except _HEADER_ERRORS as error:
        raise BundleError(
            f"the bundle is not a .tar or .tar.zst archive ({error}); {COPY_AGAIN}"
        ) from None


class _Blocks:
    """What tarfile reads from: block by block where headers are, which it counts and keeps; in
    large pieces where data is. tarfile itself takes damaged headers for the end."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._headers = bytearray()
        self._data_left = 0

    def read(self, size: int) -> bytes:
        if self._data_left:
            piece = self._source.read(min(size, self._data_left))
            self._data_left -= len(piece)
            return piece
        piece = self._source.read(tarfile.BLOCKSIZE - len(self._headers) % tarfile.BLOCKSIZE)
        self._headers += piece
        if len(self._headers) > MAX_HEADER_BYTES:
            raise BundleError(
                f"the bundle has a header of more than {MAX_HEADER_BYTES} bytes; {REMAKE}"
            )
        return piece

    def expect_data(self, size: int) -> None:
        """The next `size` bytes and their padding are a member's data."""
        self._data_left = size + -size % tarfile.BLOCKSIZE
        self._headers.clear()

    def check_end(self, last: str) -> None:
        """Raises BundleError unless what follows `last` is the end of an archive."""
        size, plain = 0, True
        piece = bytes(self._headers)
        while piece and plain and size <= MAX_PADDING_BYTES:
            size += len(piece)
            plain = not any(piece)
            piece = self._source.read(BLOCK)
        if not plain:
            raise BundleError(
                f"the bundle is damaged, or something follows it, after {last}; {COPY_AGAIN}"
            )
        if size > MAX_PADDING_BYTES:
            raise BundleError(f"the bundle has too much padding after {last}; {REMAKE}")
        if size < END_BYTES:
            raise BundleError(f"the bundle is cut off after {last}; {COPY_AGAIN}")
