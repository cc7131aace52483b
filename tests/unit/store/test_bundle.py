"""Writing bundles: the same bytes each time, only what the manifest lists, nothing damaged."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
import zstandard

from agent.errors import BundleError, IntegrityError, ManifestError
from agent.store.bundle import SUMS_NAME, BundleSource, bundle_size, bundle_stream, write_bundle
from agent.store.manifest import is_model_id
from agent.store.safe_open import BLOCK


def manifest_of(model_id: str, files: Mapping[str, bytes]) -> bytes:
    """manifest.yaml of a model with these files; the first one is its graph."""
    listed = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    graphs = {"model": next(iter(files))}
    tree = {
        "schema": 1,
        "id": model_id,
        "family": "adder",
        "task": "vad",
        "license": "none",
        "sample_rate": 16000,
        "files": listed,
        "variants": [{"name": "int8", "provider": "cpu", "graphs": graphs}],
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()


def model_folder(
    parent: Path, model_id: str, files: Mapping[str, bytes], manifest: bytes | None = None
) -> Path:
    """A model folder `parent`/`model_id` on the disk."""
    folder = parent / model_id
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "manifest.yaml").write_bytes(manifest or manifest_of(model_id, files))
    return folder


def bundled(*sources: BundleSource, compress: bool = False) -> bytes:
    target = io.BytesIO()
    write_bundle(sources, target, compress=compress)
    return target.getvalue()


def members(bundle: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


FILES = {"model.onnx": b"weights" * 99, "words/tokens.json": "[“你”]".encode(), "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "here", "zh", FILES)


def test_a_bundle_holds_the_manifest_first_and_the_sums_last(folder: Path) -> None:
    (folder / "manifest.yaml.sig").write_bytes(bytes(64))
    (folder / "notes.txt").write_bytes(b"not listed")
    held = members(bundled(BundleSource("zh", folder)))
    assert list(held) == [
        "zh/manifest.yaml",
        "zh/manifest.yaml.sig",
        *(f"zh/{name}" for name in FILES),
        "SHA256SUMS",
    ]
    assert held["zh/words/tokens.json"] == FILES["words/tokens.json"]
    sums = dict(reversed(line.split("  ")) for line in held.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}


@pytest.mark.parametrize("compress", [False, True])
def test_the_same_model_gives_the_same_bytes(tmp_path: Path, folder: Path, compress: bool) -> None:
    copy = tmp_path / "there" / "zh@12345678"
    shutil.copytree(folder, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    assert bundled(BundleSource("zh", folder), compress=compress) == bundled(
        BundleSource("zh", copy), compress=compress
    )


def test_nothing_of_the_maker_is_in_a_bundle(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundled(BundleSource("zh", folder)))) as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert facts == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on this machine")
def test_tar_and_sha256sum_read_a_bundle(tmp_path: Path, folder: Path) -> None:
    long = "deep/" * 30 + "model.onnx"
    other = model_folder(tmp_path / "here", "long", {long: b"x" * 1000})
    there = tmp_path / "there"
    there.mkdir()
    bundle = bundled(BundleSource("zh", folder), BundleSource("long", other))
    subprocess.run(["tar", "-xf", "-"], cwd=there, input=bundle, check=True, timeout=30)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=there, check=True, timeout=30)
    assert (there / "long" / long).read_bytes() == b"x" * 1000


@pytest.mark.parametrize("sizes", [(0,), (1,), (511, 512), (513, BLOCK, BLOCK + 1)])
def test_the_size_is_known_before(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    files = {f"{'n' * 60}/{i:040}": bytes(size) for i, size in enumerate(sizes)}
    source = BundleSource("zh", model_folder(tmp_path, "zh", files))
    seen: list[int] = []
    target = io.BytesIO()
    write_bundle([source], target, progress=seen.append)
    assert bundle_size([source]) == len(target.getvalue()) == seen[-1]
    assert seen == sorted(seen)


def test_the_stream_reads_as_the_written_bundle_in_any_pieces(folder: Path) -> None:
    written = bundled(BundleSource("zh", folder))
    with bundle_stream([BundleSource("zh", folder)]) as stream:
        pieces = [stream.read(n) for n in (1, 511, 7, 4096)]
        assert [len(piece) for piece in pieces] == [1, 511, 7, 4096][: len(pieces)]
        assert b"".join(pieces) + stream.read() == written
        assert stream.read(1) == b""


def test_a_compressed_bundle_holds_the_same_archive(folder: Path) -> None:
    source = BundleSource("zh", folder)
    with bundle_stream([source], compress=True) as stream:
        packed = stream.read()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == bundled(source)
    assert packed == bundled(source, compress=True)


def test_the_stream_holds_a_block_of_a_file_not_the_file(tmp_path: Path) -> None:
    files = {"model.onnx": bytes(5 * BLOCK)}
    source = BundleSource("zh", model_folder(tmp_path, "zh", files))
    longest = 0

    class Target(io.BytesIO):
        def write(self, piece: bytes) -> int:  # type: ignore[override]
            nonlocal longest
            longest = max(longest, len(piece))
            return len(piece)

    write_bundle([source], Target())
    assert longest == BLOCK


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: f.write_bytes(b"Weights" + f.read_bytes()[7:]), r"sha256 is .{8}\.\.\., manif"),
        (lambda f: f.write_bytes(b"short"), r"size is 5, manifest says 693"),
        (lambda f: f.unlink(), "is missing"),
        (lambda f: (f.unlink(), f.symlink_to("/etc/hostname")), "symbolic link"),
        (lambda f: (f.unlink(), os.mkfifo(f)), "is not a regular file"),
    ],
    ids=["flipped byte", "shorter", "missing", "link", "pipe"],
)
def test_a_damaged_model_can_not_be_bundled(folder, damage, reason) -> None:  # type: ignore[no-untyped-def]
    damage(folder / "model.onnx")
    with pytest.raises((IntegrityError, ManifestError), match=reason):
        bundled(BundleSource("zh", folder))


def test_a_failure_reaches_the_reader_and_stays(folder: Path) -> None:
    (folder / "words" / "tokens.json").write_bytes(b'["no"] ')
    with bundle_stream([BundleSource("zh", folder)]) as stream:
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"zh/words/tokens\.json: size is 7"):
                stream.read()


def test_a_stream_closed_early_leaves_no_open_file(tmp_path: Path) -> None:
    files = {"model.onnx": bytes(5 * BLOCK)}
    source = BundleSource("zh", model_folder(tmp_path, "zh", files))
    before = set(os.listdir("/proc/self/fd"))
    stream = bundle_stream([source])
    stream.read(BLOCK)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    stream.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_manifest_may_be_given_for_a_folder_that_has_none(folder: Path) -> None:
    files = {name: FILES[name] for name in ("model.onnx", "empty")}
    (folder / "manifest.yaml").unlink()
    (folder / "manifest.yaml.sig").write_bytes(b"of another manifest")
    given = manifest_of("adopted", files)
    held = members(bundled(BundleSource("adopted", folder, given)))
    assert list(held) == ["adopted/manifest.yaml", "adopted/model.onnx", "adopted/empty",
                          "SHA256SUMS"]  # fmt: skip
    assert held["adopted/manifest.yaml"] == given
    held = members(bundled(BundleSource("adopted", folder, given, b"s" * 64)))
    assert held["adopted/manifest.yaml.sig"] == b"s" * 64


def test_what_is_no_bundle_is_refused_before_the_first_byte(tmp_path: Path, folder: Path) -> None:
    zh = BundleSource("zh", folder)
    case = model_folder(tmp_path, "case", {"a/B": b"", "a/b": b""})
    odd = model_folder(tmp_path, "odd", {"a\u202eb": b""})
    for sources, reason in (
        ([], "no model is named"),
        ([zh, zh], "comes twice"),
        ([BundleSource("case", case)], "differ only in case"),
        ([BundleSource("odd", odd)], "invisible characters"),
        ([BundleSource("en", folder)], "the id is 'zh', the bundle is to hold 'en'"),
        ([BundleSource("zh", tmp_path / "absent")], "can't be read"),
    ):
        with pytest.raises((BundleError, ManifestError), match=reason):
            bundle_stream(sources)


def test_a_signature_that_is_a_link_is_refused(folder: Path) -> None:
    (folder / "manifest.yaml.sig").symlink_to("/etc/hostname")
    with pytest.raises(IntegrityError, match="symbolic link"):
        bundled(BundleSource("zh", folder))


def test_no_model_can_be_called_as_the_sums_are() -> None:
    assert not is_model_id(SUMS_NAME)
