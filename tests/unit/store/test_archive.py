"""Reading bundles: what a bundle can't hold is refused, by archives made by hand."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, BundleError, NoSpace
from agent.store.archive import MAX_HEADER_BYTES, MAX_PADDING_BYTES, UnpackedModel, unpack
from agent.store.bundle import MAX_MEMBERS, SUMS_NAME, BundleSource, write_bundle
from agent.store.disk import Disk
from agent.store.manifest import ListedFile
from agent.store.safe_open import BLOCK, open_stream
from tests.unit.store.test_bundle import manifest_of

END = bytes(1024)
MAX_BYTES = 10_000_000
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", **fields: object) -> Entry:
    """A member of an archive; `fields` are attributes of its TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder_entry(name: str) -> Entry:
    return entry(name, type=tarfile.DIRTYPE)


def sums_of(*entries: Entry) -> Entry:
    """SHA256SUMS of the files among `entries`."""
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {info.name}\n"
        for info, data in entries
        if info.type == tarfile.REGTYPE
    ]
    return entry(SUMS_NAME, "".join(lines).encode("utf-8", "surrogateescape"))


def archive(*entries: Entry, end: bytes = END, form: int = tarfile.PAX_FORMAT) -> bytes:
    pieces = []
    for info, data in entries:
        pieces += [info.tobuf(form, "utf-8", "surrogateescape"), data, bytes(-len(data) % 512)]
    return b"".join(pieces) + end


def whole(*entries: Entry, **more: int) -> bytes:
    """An archive of `entries` with right sums after them."""
    return archive(*entries, sums_of(*entries), **more)


MANIFEST = entry("zh/manifest.yaml", b"schema: 1")
SOUND = (MANIFEST, entry("zh/model.onnx", b"weights"))


class Pipe(io.RawIOBase):
    """A stream that can't be seeked and gives what it likes."""

    def __init__(self, data: bytes, piece: int = 1 << 30) -> None:
        self._data = memoryview(data)
        self._piece = piece
        self.longest_read = 0

    def read(self, size: int = -1) -> bytes:
        self.longest_read = max(self.longest_read, size)
        size = min(size, self._piece)
        piece, self._data = bytes(self._data[:size]), self._data[size:]
        return piece

    def seekable(self) -> bool:
        return False


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "staging"
    folder.mkdir(parents=True)
    return folder


def unpacked(
    data: bytes, staging: Path, *, disk: Disk | None = None, max_bytes: int = MAX_BYTES
) -> tuple[UnpackedModel, ...]:
    return unpack(Pipe(data), staging, disk=disk or Disk(), max_bytes=max_bytes)  # type: ignore[arg-type]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_sound_bundle_is_written_as_it_came(staging: Path) -> None:
    other = (entry("en.1/manifest.yaml", b"m"), entry("en.1/a/b/c.bin", bytes(BLOCK + 1)))
    signature = entry("zh/manifest.yaml.sig", b"s" * 64)
    models = unpacked(whole(*SOUND, signature, *other), staging)
    assert [model.id for model in models] == ["zh", "en.1"]
    zh, en = models
    assert zh.folder == staging / "zh"
    assert zh.manifest_sha256 == hashlib.sha256(b"schema: 1").hexdigest()
    assert zh.hashes == {"model.onnx": ListedFile(7, hashlib.sha256(b"weights").hexdigest())}
    assert list(en.hashes) == ["a/b/c.bin"]
    assert files_below(staging) == {
        "zh/manifest.yaml": b"schema: 1",
        "zh/model.onnx": b"weights",
        "zh/manifest.yaml.sig": b"s" * 64,
        "en.1/manifest.yaml": b"m",
        "en.1/a/b/c.bin": bytes(BLOCK + 1),
    }


def test_owner_mode_and_time_of_the_archive_are_not_taken_over(staging: Path) -> None:
    strange = entry("zh/model.onnx", b"w", mode=0o6777, uid=1234, gid=1234, mtime=1)
    previous = os.umask(0o022)
    try:
        unpacked(whole(MANIFEST, folder_entry("zh/empty"), strange), staging)
    finally:
        os.umask(previous)
    status = (staging / "zh" / "model.onnx").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o644, os.getuid())
    assert status.st_mtime > 1
    assert (staging / "zh" / "empty").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(staging: Path, form: int) -> None:
    name = f"zh/{'d' * 60}/{'f' * 60}"
    models = unpacked(whole(*SOUND, entry(name, b"x"), form=form), staging)
    assert name.removeprefix("zh/") in models[0].hashes


def test_a_bundle_made_by_tar_and_sha256sum_is_read(tmp_path: Path, staging: Path) -> None:
    (tmp_path / "zh" / "sub").mkdir(parents=True)
    for name in ("manifest.yaml", "sub/你好.bin", "a b"):
        (tmp_path / "zh" / name).write_bytes(name.encode())
    make = "find ./zh -type f -exec sha256sum -b {} + > SHA256SUMS && tar -cf - ./SHA256SUMS ./zh"
    done = subprocess.run(make, shell=True, cwd=tmp_path, check=True, capture_output=True)
    (model,) = unpacked(done.stdout, staging)
    assert set(model.hashes) == {"sub/你好.bin", "a b"}


LINK = {"linkname": "../../etc/passwd"}
REFUSED: dict[str, tuple[Entry, str]] = {
    "symbolic link": (entry("zh/a", type=tarfile.SYMTYPE, **LINK), r"zh/a: is a symbolic link"),
    "hard link": (entry("zh/a", type=tarfile.LNKTYPE, **LINK), r"zh/a: is a hard link"),
    "named pipe": (entry("zh/a", type=tarfile.FIFOTYPE), r"zh/a: is a named pipe"),
    "block device": (entry("zh/a", type=tarfile.BLKTYPE), r"zh/a: is a device"),
    "character device": (entry("zh/a", type=tarfile.CHRTYPE), r"zh/a: is a device"),
    "contiguous file": (entry("zh/a", type=tarfile.CONTTYPE), r"zh/a: is neither a file nor"),
    "unknown kind": (entry("zh/a", type=b"Z"), r"zh/a: is neither a file nor a folder"),
    "absolute path": (entry("/etc/cron.d/a"), r"/etc/cron\.d/a: is absolute"),
    "absolute folder": (folder_entry("/etc"), r"/etc: is absolute"),
    "way up": (entry("zh/../../a"), r"zh/\.\./\.\./a: leaves the model's folder"),
    "way up at the start": (entry("../a"), r"\.\./a: leaves the model's folder"),
    "folder above": (folder_entry(".."), r"\.\.: leaves the model's folder"),
    "roundabout way": (entry("zh/./a"), r"leaves the model's folder or is not in its plain form"),
    "backslash": (entry("zh\\a"), r"lies outside the folders of the models"),
    "backslash inside": (entry("zh/a\\b"), r"is absolute or not portable"),
    "drive": (entry("c:/a"), r"is absolute or not portable"),
    "line feed": (entry("zh/a\nb"), r"zh/a\\nb: has control or invisible characters"),
    "escape": (entry("zh/\x1b[2J"), r"zh/\\x1b\[2J: has control or invisible characters"),
    "right to left": (entry("zh/a\u202eb"), r"zh/a\\u202eb: has control or invisible"),
    "not UTF-8": (entry("zh/a\udcff"), r"zh/a\\udcff: has control or invisible characters"),
    "beside the folders": (entry("README"), r"README: lies outside the folders"),
    "manifest at the top": (entry("manifest.yaml"), r"manifest\.yaml: lies outside the folders"),
    "sums as a folder": (folder_entry(SUMS_NAME), r"SHA256SUMS: lies in a folder that is not"),
    "upper-case id": (entry("Zh/a"), r"Zh/a: lies in a folder that is not a model id"),
    "hidden id": (entry(".staging-1/a"), r"lies in a folder that is not a model id"),
    "installed name": (entry("zh@12345678/a"), r"lies in a folder that is not a model id"),
    "endless part": (entry("zh/" + "a" * 256), r"has a part of more than 255 bytes"),
    "endless name": (entry("zh/" + "a/" * 260 + "a"), r"has a name of more than 512 bytes"),
    "same file again": (entry("zh/model.onnx", b"weights"), r"zh/model\.onnx: comes twice"),
    "same manifest again": (entry("zh/manifest.yaml", b"schema: 1"), r"yaml: comes twice"),
    "same in other case": (entry("zh/Model.ONNX"), r"zh/Model\.ONNX: can't lie beside zh/model"),
    "folder of a file's name": (folder_entry("zh/model.onnx"), r"zh/model\.onnx: comes twice"),
    "file below a file": (entry("zh/model.onnx/a"), r"can't lie beside zh/model\.onnx"),
    "long manifest": (entry("en/manifest.yaml", bytes(2**20 + 1)), r"yaml: has 1048577 bytes"),
    "long signature": (entry("zh/manifest.yaml.sig", bytes(4097)), r"has 4097 bytes, at most 4096"),
    "sparse file": (
        entry("zh/a", b"x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}),
        r"zh/a: is a sparse file",
    ),
    "sparse file of another form": (
        entry("zh/a", b"1\n0\n1\n" + bytes(506) + b"x",
              pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                           "GNU.sparse.realsize": "1", "GNU.sparse.name": "zh/a"}),
        r"zh/a: is a sparse file",
    ),
    "negative size": (entry("zh/a", b"x", pax_headers={"size": "-512"}), r"damaged|bytes"),
    "size of no number": (entry("zh/a", b"x", pax_headers={"size": "9" * 5000}), r"damaged|bytes"),
    "header without an end": (
        entry("zh/a", b"x", pax_headers={"comment": "c" * MAX_HEADER_BYTES}),
        rf"a header of more than {MAX_HEADER_BYTES} bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_bundle_needs_is_refused(case: str, staging: Path) -> None:
    member, reason = REFUSED[case]
    with pytest.raises(BundleError, match=reason):
        unpacked(whole(*SOUND, member), staging)
    (staging / "inside").touch()
    assert {path.name for path in staging.parent.iterdir()} == {"staging"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("zh/caf\u00e9", "zh/cafe\u0301"),
        ("zh/stra\u00dfe", "zh/STRASSE"),
        ("zh/A/x", "zh/a/y"),
        ("zh/a/b", "zh/a"),
    ],
)
def test_names_that_a_disk_may_fold_into_one_are_refused(
    first: str, second: str, staging: Path
) -> None:
    with pytest.raises(BundleError, match="can't lie beside"):
        unpacked(whole(MANIFEST, entry(first), entry(second)), staging)


def test_a_gnu_sparse_file_is_refused(tmp_path: Path, staging: Path) -> None:
    (tmp_path / "zh").mkdir()
    with open(tmp_path / "zh" / "model.onnx", "wb") as file:
        file.truncate(1 << 20)
    for form in ("gnu", "posix"):
        made = subprocess.run(
            ["tar", "-S", "-H", form, "-cf", "-", "zh/model.onnx"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        with pytest.raises(BundleError, match=r"zh/model\.onnx: is a sparse file"):
            unpacked(made.stdout, staging)


def test_more_members_than_allowed_are_refused(staging: Path) -> None:
    class NoDisk(Disk):
        """Makes nothing: the test is of the count."""

        def make_folder(self, folder: Path, mode: int = 0o755) -> None:
            pass

    flat = [folder_entry(f"zh/{i}") for i in range(MAX_MEMBERS + 1)]
    deep = [folder_entry(f"zh/{i}/{'a/' * 100}a") for i in range(MAX_MEMBERS // 100)]
    nowhere = [folder_entry("./")] * (MAX_MEMBERS + 2)
    for members in (flat, deep, nowhere):
        with pytest.raises(BundleError, match=f"more than {MAX_MEMBERS} files and folders"):
            unpacked(archive(*members), staging, disk=NoDisk())


def test_a_bundle_larger_than_allowed_is_refused_by_its_header(staging: Path) -> None:
    """No byte of the file is there to be written."""
    header = archive(*SOUND, end=b"") + entry("zh/big", size=50_000_000)[0].tobuf()
    with pytest.raises(BundleError, match=r"zh/big: the bundle is larger than 10 MB unpacked; "):
        unpacked(header, staging)
    assert "zh/big" not in files_below(staging)


def test_files_count_together_against_the_limit(staging: Path) -> None:
    half = bytes(600)
    with pytest.raises(BundleError, match=r"zh/b: the bundle is larger than"):
        unpacked(whole(entry("zh/a", half), entry("zh/b", half)), staging, max_bytes=1000)


def test_a_bomb_of_padding_is_refused(staging: Path) -> None:
    endless = whole(*SOUND) + bytes(MAX_PADDING_BYTES)
    packed = zstandard.compress(endless + bytes(10 * MAX_PADDING_BYTES))
    for data, place in ((endless, "a"), (packed, "b")):
        with pytest.raises(BundleError, match="too much padding"):
            unpacked(data, staging / place)


def test_headers_one_in_the_other_are_refused(staging: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1
    nested = (name.tobuf() + bytes(512)) * 2000 + whole(*SOUND)
    with pytest.raises(BundleError, match="a header of more than"):
        unpacked(nested, staging)


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        (None, r"SHA256SUMS: is missing"),
        (b"", r"zh/manifest\.yaml: SHA256SUMS does not list it"),
        (b"abc  zh/manifest.yaml\n", r"SHA256SUMS: line 1 is not `<sha256>  <path>`"),
        (sums_of(*SOUND)[1] * 2, r"SHA256SUMS: line 3 repeats a path"),
        (sums_of(*SOUND, entry("zh/more"))[1], r"zh/more: SHA256SUMS lists it, the bundle lacks"),
        (sums_of(MANIFEST, entry("zh/model.onnx", b"other"))[1],
         r"zh/model\.onnx: sha256 is .{8}\.\.\., SHA256SUMS says .{8}\.\.\."),
        (b"\xff\n", r"SHA256SUMS: is not UTF-8"),
        (bytes(2_000_000), r"SHA256SUMS: has 2000000 bytes, at most"),
    ],
    ids=["none", "empty", "not a hash", "twice", "too many", "another hash", "binary", "huge"],
)  # fmt: skip
def test_sums_that_are_not_those_of_the_files_are_refused(
    sums: bytes | None, reason: str, staging: Path
) -> None:
    listed = [] if sums is None else [entry(SUMS_NAME, sums)]
    with pytest.raises(BundleError, match=reason):
        unpacked(archive(*SOUND, *listed), staging)


def test_sums_that_come_twice_are_refused(staging: Path) -> None:
    with pytest.raises(BundleError, match="SHA256SUMS: comes twice"):
        unpacked(archive(*SOUND, sums_of(*SOUND), sums_of(*SOUND)), staging)


def test_a_model_without_manifest_and_a_bundle_without_model_are_refused(staging: Path) -> None:
    with pytest.raises(BundleError, match=r"zh/manifest\.yaml: is missing"):
        unpacked(whole(entry("zh/a")), staging)
    for nothing in (END, whole(), whole(folder_entry("zh"))):
        # The tarfile of Python 3.10 does not get over an archive of nothing but its end.
        with pytest.raises(BundleError, match=r"holds no model|damaged after its start"):
            unpacked(nothing, staging)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"PK\3\4" + bytes(600), b"\x1f\x8b" + os.urandom(700), b"\0" * 100, b"a" * 2000],
    ids=["empty", "one byte", "zip", "gzip", "zeros", "text"],
)
def test_what_is_no_archive_is_refused(data: bytes, staging: Path) -> None:
    with pytest.raises(BundleError, match=r"not a \.tar or \.tar\.zst archive|cut off"):
        unpacked(data, staging)
    assert files_below(staging) == {}


def test_zeros_after_the_end_are_padding_and_anything_else_is_not(staging: Path) -> None:
    sound = whole(*SOUND)
    with pytest.raises(BundleError, match="damaged, or something follows it"):
        unpacked(sound + bytes(5000) + b"x", staging)
    again = staging / "again"
    again.mkdir()
    assert unpacked(sound + bytes(9 * 512 + 1), again)


def test_a_damaged_header_is_not_taken_for_the_end(staging: Path) -> None:
    """tarfile alone would stop there without an error."""
    data = bytearray(archive(*SOUND, sums_of(*SOUND), entry("zh/more")))
    data[-len(END) - 512 + 3] ^= 1
    with pytest.raises(BundleError, match=r"damaged.* after SHA256SUMS"):
        unpacked(bytes(data), staging)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundle")
    files = {"model.onnx": os.urandom(700), f"{'long/' * 25}name": b"x" * 512}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    target = io.BytesIO()
    write_bundle([BundleSource("zh", folder, manifest_of("zh", files), b"s" * 64)], target)
    return target.getvalue()


@settings(deadline=None, max_examples=200)
@given(cut=st.floats(0, 1, exclude_max=True), compress=st.booleans(), piece=st.integers(1, 3000))
@example(cut=0.999999, compress=True, piece=1)
@example(cut=0.999999, compress=False, piece=512)
def test_a_bundle_cut_at_any_byte_is_refused(
    bundle: bytes, tmp_path_factory: pytest.TempPathFactory, cut: float, compress: bool, piece: int
) -> None:
    data = zstandard.compress(bundle) if compress else bundle
    short = Pipe(data[: int(cut * len(data))], piece)
    staging = tmp_path_factory.mktemp("cut")
    with pytest.raises(BundleError, match=r"cut off|damaged|not a|missing"):
        unpack(short, staging, disk=QuickDisk(), max_bytes=MAX_BYTES)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=100)
@given(at=st.integers(0, 1 << 20), value=st.integers(1, 255))
def test_a_changed_byte_never_changes_what_is_unpacked(
    bundle: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    data = bytearray(bundle)
    data[at % len(data)] ^= value
    folder = tmp_path_factory.mktemp("changed")
    try:
        unpack(Pipe(bytes(data)), folder, disk=QuickDisk(), max_bytes=MAX_BYTES)  # type: ignore[arg-type]
    except BundleError:
        return
    sound = tmp_path_factory.mktemp("sound")
    unpack(Pipe(bundle), sound, disk=QuickDisk(), max_bytes=MAX_BYTES)  # type: ignore[arg-type]
    assert files_below(folder) == files_below(sound)


PARTS = st.text(st.characters(categories=["Lo", "Nd"], max_codepoint=0x9FFF), max_size=40)
NAMES = st.lists(PARTS, max_size=3)
"""Parts of paths; with a number before each, none folds into another."""


def paths(names: list[list[str]]) -> list[str]:
    return ["/".join(f"{i}{part}" for part in ["", *parts]) + "." for i, parts in enumerate(names)]


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(NAMES, min_size=1, max_size=5),
    contents=st.lists(st.binary(max_size=3000), min_size=5, max_size=5),
    compress=st.booleans(),
    piece=st.integers(1, 5000),
)
def test_what_was_bundled_is_what_is_unpacked(
    names: list[list[str]],
    contents: list[bytes],
    compress: bool,
    piece: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    files = dict(zip(paths(names), contents, strict=False))
    source = tmp_path_factory.mktemp("source")
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    manifest = manifest_of("m", files)
    target = io.BytesIO()
    write_bundle([BundleSource("m", source, manifest)], target, compress=compress)
    staging = tmp_path_factory.mktemp("staging")
    (model,) = unpack(
        Pipe(target.getvalue(), piece), staging, disk=QuickDisk(), max_bytes=MAX_BYTES
    )  # type: ignore[arg-type]
    assert files_below(model.folder) == {**files, "manifest.yaml": manifest}
    assert {name: f.sha256 for name, f in model.hashes.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


class QuickDisk(Disk):
    """Writes without syncing."""

    def sync_folder(self, folder: Path) -> None:
        pass

    @contextmanager
    def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
        with open(path, "xb") as file:
            yield file


def test_frames_of_zstd_follow_each_other_and_nothing_else_follows(staging: Path) -> None:
    sound = whole(*SOUND)
    frames = zstandard.compress(sound[:700]) + zstandard.compress(sound[700:])
    assert unpacked(frames, staging)
    more = zstandard.compress(b"more")
    for place, (rest, reason) in enumerate(
        (
            (b"x", "can't be decompressed"),
            (b"garbage", "can't be decompressed"),
            (more[:3], "cut off"),
            (more[:-1], "cut off"),
            (more, "something follows"),
        )
    ):
        with pytest.raises(BundleError, match=reason):
            unpacked(zstandard.compress(sound) + rest, staging / str(place))


def test_a_frame_without_its_checksum_is_cut_off(staging: Path) -> None:
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(whole(*SOUND))
    with pytest.raises(BundleError, match="cut off"):
        unpacked(packed[:-1], staging)


def test_a_window_larger_than_the_box_is_refused(staging: Path) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    packed = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(BundleError, match=r"can't be decompressed .*zstd -19"):
        unpacked(packed.compress(whole(*SOUND)) + packed.flush(), staging)


def test_the_stream_is_read_in_bounded_blocks_and_told_of(staging: Path) -> None:
    data = whole(MANIFEST, entry("zh/model.onnx", bytes(3 * BLOCK + 5)))
    stream = Pipe(data)
    seen: list[int] = []
    unpack(stream, staging, disk=Disk(), max_bytes=MAX_BYTES, progress=seen.append)  # type: ignore[arg-type]
    assert stream.longest_read <= BLOCK
    assert seen == sorted(seen)
    assert seen[-1] == len(data)


def test_a_file_is_written_in_bounded_blocks(staging: Path) -> None:
    longest = 0

    class Watched(Disk):
        @contextmanager
        def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
            class File:
                def write(self, block: bytes) -> None:
                    nonlocal longest
                    longest = max(longest, len(block))

            yield File()  # type: ignore[misc]

    data = whole(MANIFEST, entry("zh/model.onnx", bytes(5 * BLOCK)))
    for form in (data, zstandard.compress(data)):
        unpacked(form, staging, disk=Watched())
    assert longest == BLOCK


def test_a_bomb_of_zstd_is_unpacked_in_flat_memory(staging: Path) -> None:
    """4 kB that make 128 MB."""
    bomb = whole(MANIFEST, entry("zh/zeros", bytes(1 << 27)))
    packed = zstandard.compress(bomb, 19)
    del bomb
    tracemalloc.start()
    try:
        unpacked(packed, staging, disk=QuickDisk(), max_bytes=1 << 30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20


def test_a_stream_that_never_ends_is_refused(staging: Path) -> None:
    class Endless(io.RawIOBase):
        """Frames with nothing in them."""

        def read(self, size: int = -1) -> bytes:
            return zstandard.compress(b"") * 5000

    with pytest.raises(BundleError, match="too large"):
        open_stream(Endless(), 200_000).read(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(code: int, staging: Path) -> None:
    class FullDisk(Disk):
        @contextmanager
        def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
            with super().create(path, mode) as file:
                yield file
                raise OSError(code, os.strerror(code))

    with pytest.raises(NoSpace, match=r"zh/manifest\.yaml: the disk is full; remove"):
        unpacked(whole(*SOUND), staging, disk=FullDisk())


def test_the_room_is_looked_at_before_a_file_is_written(staging: Path) -> None:
    header = entry("zh/big", size=1 << 60)[0].tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(NoSpace, match="MB free"):
        unpacked(header, staging, max_bytes=1 << 61)
    assert files_below(staging) == {}


def test_a_disk_that_fails_is_told_without_a_traceback(staging: Path) -> None:
    class BrokenDisk(Disk):
        def make_folder(self, folder: Path, mode: int = 0o755) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(AgentError, match=r"can't be written \(Read-only file system\)"):
        unpacked(whole(*SOUND), staging, disk=BrokenDisk())


def test_a_stream_that_fails_is_told_without_a_traceback(staging: Path) -> None:
    class Pulled(Pipe):
        """A stick that is pulled out."""

        def read(self, size: int = -1) -> bytes:
            if piece := super().read(size):
                return piece
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    stream = Pulled(whole(*SOUND)[:1500], 512)
    with pytest.raises(BundleError, match=r"can't be read \(Input/output error\); copy or upload"):
        unpack(stream, staging, disk=Disk(), max_bytes=MAX_BYTES)  # type: ignore[arg-type]


def test_an_error_of_the_sender_comes_through_as_it_is(staging: Path) -> None:
    class Gone(AgentError):
        pass

    class Sender(Pipe):
        def read(self, size: int = -1) -> bytes:
            if piece := super().read(size):
                return piece
            raise Gone("the client went away")

    with pytest.raises(Gone):
        unpack(Sender(whole(*SOUND)[:1500], 512), staging, disk=Disk(), max_bytes=MAX_BYTES)  # type: ignore[arg-type]


def test_a_bundle_comes_through_a_real_pipe(staging: Path) -> None:
    data = whole(MANIFEST, entry("zh/model.onnx", os.urandom(300_000)))
    reader, writer = os.pipe()

    def send() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        (model,) = unpack(pipe, staging, disk=Disk(), max_bytes=MAX_BYTES)
    thread.join()
    assert model.hashes["model.onnx"].size == 300_000
