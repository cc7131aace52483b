"""What a bundle is (member names, SHA256SUMS), and writing one: the same models always give the
same bytes, and only what their manifests say can go in."""

from __future__ import annotations

import io
import tarfile
import unicodedata
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from agent.errors import BundleError, IntegrityError, ManifestError
from agent.store.manifest import ListedFile, Manifest, is_model_id, parse_manifest, read_manifest
from agent.store.names import MANIFEST_NAME, SIGNATURE_NAME, unsafe_name
from agent.store.safe_open import BLOCK, Unfit, checked_blocks, read_small

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUMS_NAME = "SHA256SUMS"
MAX_MEMBERS = 2000
"""Files and folders of a bundle, those folders included that only paths name."""
MAX_NAME_BYTES = 512
MAX_SIGNATURE_BYTES = 4096
END_BYTES = 2 * tarfile.BLOCKSIZE
"""Zeros that end a tar archive."""
REMAKE = "make it again with `funasr-agent models bundle`"

_MAX_PART_BYTES = 255
_COMPRESSION_LEVEL = 3
_FILE_MODE = 0o644


@dataclass(frozen=True)
class BundleSource:
    """A model folder that goes into a bundle."""

    id: str
    folder: Path
    manifest: bytes | None = None
    """Used in place of the folder's manifest.yaml, as for an adopted export that has none."""
    signature: bytes | None = None
    """Of `manifest`. With neither, the folder's manifest.yaml.sig is taken if it is there."""
    extra: Mapping[str, bytes] = field(default_factory=dict)
    """Listed files that are not in the folder, by name (see `agent.store.adopt`)."""


def write_bundle(
    sources: Sequence[BundleSource],
    target: BinaryIO,
    *,
    compress: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the models as one .tar (.tar.zst with `compress`) to `target`.

    `progress` gets the bytes of the archive so far, before compression (`bundle_size` is the
    whole). Raises BundleError, ManifestError, and IntegrityError for a file that is not what its
    manifest says; what `target` has by then is no bundle.
    """
    for piece in _pieces(_members(sources), compress, progress):
        target.write(piece)


def bundle_stream(sources: Sequence[BundleSource], compress: bool = False) -> BinaryIO:
    """The bundle as a file to read, made while it is read: nothing lies on the disk.

    Errors as of `write_bundle` come out of `read`; after one every `read` raises it again. Close
    it, or use it in a `with` block.
    """
    return io.BufferedReader(_PieceReader(_pieces(_members(sources), compress, None)), BLOCK)


def bundle_size(sources: Sequence[BundleSource]) -> int:
    """Bytes of the bundle without compression. Reads the manifests only; errors as above."""
    members = _members(sources)
    return sum(len(m.header) + m.size + len(m.padding) for m in members) + END_BYTES


def refused_name(name: str, *, is_folder: bool = False) -> str:
    """Why `<id>/<file>`, or the folder `<id>[/<folder>]`, can't be a member; empty when it can."""
    if not name.isprintable():
        return "has control or invisible characters in its name"
    model_id, _, inner = name.partition("/")
    if (inner or is_folder) and (reason := unsafe_name(name)):
        return reason
    if not inner and not is_folder:
        return f"lies outside the folders of the models; only {SUMS_NAME} may"
    if not is_model_id(model_id):
        return "lies in a folder that is not a model id (a-z, 0-9, '.', '_' and '-')"
    if max(len(part.encode()) for part in name.split("/")) > _MAX_PART_BYTES:
        return f"has a part of more than {_MAX_PART_BYTES} bytes in its name"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has a name of more than {MAX_NAME_BYTES} bytes"
    return ""


class MemberNames:
    """The names of a bundle, which must stay apart on disks that fold case or Unicode forms."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, bool]] = {}
        self._came: set[str] = set()

    def add(self, name: str, *, is_folder: bool = False) -> None:
        """Raises BundleError when the name clashes with an earlier one, or one too many came."""
        if name in self._came:
            raise BundleError(f"comes twice in the bundle; {REMAKE}", file=shown(name))
        self._came.add(name)
        parts = name.split("/")
        for depth in range(1, len(parts)):
            self._note("/".join(parts[:depth]), name, is_folder=True)
        self._note(name, name, is_folder=is_folder)
        if len(self._known) > MAX_MEMBERS:
            raise BundleError(f"the bundle has more than {MAX_MEMBERS} files and folders")

    def _note(self, path: str, member: str, *, is_folder: bool) -> None:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
        known = self._known.setdefault(folded, (path, is_folder))
        if known != (path, is_folder):
            raise BundleError(
                f"can't lie beside {shown(known[0])} on every disk (one is a folder of the same "
                "name, or they differ only in case or Unicode form); rename one of them",
                file=shown(member),
            )


def shown(name: str) -> str:
    """A member's name for a message: nothing invisible in it, and not endless."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return plain if len(plain) <= 120 else plain[:117] + "..."


@dataclass(frozen=True)
class _Member:
    """One file of the archive: `content`, or what lies on the disk."""

    name: str
    size: int
    sha256: str
    content: bytes | None = None
    folder: Path = Path()
    inner: str = ""

    @property
    def header(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.size, info.mode = self.size, _FILE_MODE
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")

    @property
    def padding(self) -> bytes:
        return bytes(-self.size % tarfile.BLOCKSIZE)

    def blocks(self) -> Iterator[bytes]:
        """Raises IntegrityError."""
        if self.content is not None:
            yield self.content
            return
        try:
            yield from checked_blocks(self.folder, self.inner, ListedFile(self.size, self.sha256))
        except Unfit as unfit:
            raise IntegrityError(
                f"{unfit}; a damaged model can't be bundled, install it again", file=self.name
            ) from None


def _pieces(
    members: Sequence[_Member], compress: bool, progress: Callable[[int], None] | None
) -> Generator[bytes, None, None]:
    """The bytes of the bundle. Its first `next` opens the first file, `close` closes the last."""
    if not compress:
        yield from _tar(members, progress)
        return
    compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL, write_checksum=True)
    stream = compressor.compressobj()
    for piece in _tar(members, progress):
        if compressed := stream.compress(piece):
            yield compressed
    yield stream.flush()


def _tar(members: Sequence[_Member], progress: Callable[[int], None] | None) -> Iterator[bytes]:
    written = 0
    for member in members:
        for piece in chain((member.header,), member.blocks(), (member.padding,)):
            yield piece
            written += len(piece)
            if progress is not None:
                progress(written)
    yield bytes(END_BYTES)
    if progress is not None:
        progress(written + END_BYTES)


def _members(sources: Sequence[BundleSource]) -> list[_Member]:
    """Every file of the bundle in order. Raises BundleError, ManifestError, IntegrityError."""
    if not sources:
        raise BundleError("no model is named; a bundle holds at least one")
    names = MemberNames()
    members = [member for source in sources for member in _model_members(source)]
    for member in members:
        if reason := refused_name(member.name):
            raise BundleError(f"{reason}; rename it", file=shown(member.name))
        names.add(member.name)
    sums = "".join(f"{member.sha256}  {member.name}\n" for member in members)
    names.add(SUMS_NAME)
    return [*members, _in_memory(SUMS_NAME, sums.encode())]


def _model_members(source: BundleSource) -> list[_Member]:
    manifest = _manifest(source)
    members = [_in_memory(f"{source.id}/{MANIFEST_NAME}", manifest.data)]
    if (signature := _signature(source)) is not None:
        members.append(_in_memory(f"{source.id}/{SIGNATURE_NAME}", signature))
    for name, listed in manifest.files.items():
        member = f"{source.id}/{name}"
        if name in source.extra:
            members.append(_in_memory(member, source.extra[name]))
        else:
            size, sha256 = listed.size, listed.sha256
            members.append(_Member(member, size, sha256, folder=source.folder, inner=name))
    return members


def _manifest(source: BundleSource) -> Manifest:
    if source.manifest is None:
        manifest = read_manifest(source.folder)
    else:
        manifest = parse_manifest(source.manifest, source.folder)
    if manifest.id != source.id:
        raise ManifestError(
            f"the id is {manifest.id!r}, the bundle is to hold {source.id!r}",
            file=f"{source.folder.name}/{MANIFEST_NAME}",
        )
    return manifest


def _signature(source: BundleSource) -> bytes | None:
    path = source.folder / SIGNATURE_NAME
    if source.signature is not None or source.manifest is not None or not path.exists():
        return source.signature
    try:
        return read_small(source.folder, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    except Unfit as unfit:
        raise IntegrityError(
            f"{unfit}; sign the model again", file=f"{source.folder.name}/{SIGNATURE_NAME}"
        ) from None


def _in_memory(name: str, content: bytes) -> _Member:
    return _Member(name, len(content), sha256(content).hexdigest(), content)


class _PieceReader(io.RawIOBase):
    """Reads what a generator gives. A failure is told at every read: never a short bundle that
    looks like a whole one."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")
        self._failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._failure is not None:
            raise self._failure
        try:
            while not self._left:
                self._left = memoryview(next(self._pieces))
        except StopIteration:
            return 0
        except BaseException as error:
            self._failure = error
            raise
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._left))
        into[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        self._pieces.close()
        super().close()
