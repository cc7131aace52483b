"""Installing: all models of a bundle or none, whatever stops it, and nothing unproven."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import (
    AgentError,
    AlreadyInstalled,
    BundleError,
    GoldenMismatch,
    IntegrityError,
    ManifestError,
    NoSpace,
    SignatureError,
    StoreBusy,
    UnknownModel,
)
from agent.store.bundle import BundleSource, bundle_stream
from agent.store.disk import Disk
from agent.store.install import InstalledModel, Installer
from agent.store.lock import StoreLock
from agent.store.manifest import read_manifest
from agent.store.trust import TrustedKeys, generate_key, sign
from agent.store.verify import read_verified
from tests.unit.store.test_archive import Pipe, entry, files_below, whole
from tests.unit.store.test_bundle import bundled, manifest_of, model_folder

ZH = {"model.onnx": b"weights of zh" * 100, "words/tokens.json": b'["a"]'}
EN = {"model.onnx": b"weights of en" * 100}
NO_KEYS = TrustedKeys.load(())


def name_of(model_id: str, files: dict[str, bytes]) -> str:
    return f"{model_id}@{hashlib.sha256(manifest_of(model_id, files)).hexdigest()[:8]}"


ZH_NAME, EN_NAME = name_of("zh", ZH), name_of("en", EN)


class Fault(BaseException):
    """As an interrupt from the keyboard: no ordinary exception."""


class FaultyDisk(Disk):
    """Counts the operations; before or after operation number `at` it raises."""

    def __init__(self, at: int = -1, *, after: bool = False, error: BaseException | None = None):
        self.count = 0
        self._at = at
        self._after = after
        self._error = error or Fault()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        mine, self.count = self.count, self.count + 1
        if mine == self._at and not self._after:
            raise self._error
        yield
        if mine == self._at and self._after:
            raise self._error

    def make_folder(self, folder: Path, mode: int = 0o755) -> None:
        with self._counted():
            super().make_folder(folder, mode)

    @contextmanager
    def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
        with self._counted(), super().create(path, mode) as file:
            yield file

    def replace(self, source: Path, target: Path) -> None:
        with self._counted():
            super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        with self._counted():
            super().sync_folder(folder)


class Store:
    """A store with its installer; what was proven is noted."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "state" / "models"
        self.proven: list[str] = []
        self.refuse: set[str] = set()

    def prove(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        with read_verified(manifest, folder):
            self.proven.append(manifest.id)
        if manifest.id in self.refuse:
            raise GoldenMismatch("heard something else")

    def installer(self, disk: Disk | None = None, keys: TrustedKeys = NO_KEYS) -> Installer:
        return Installer(
            self.models, disk or Disk(), max_bytes=1 << 20, keys=keys, prove=self.prove
        )

    def install(self, data: bytes, **more: object) -> tuple[InstalledModel, ...]:
        return self.installer(**more).install(Pipe(data))  # type: ignore[arg-type]

    def content(self) -> dict[str, bytes]:
        return files_below(self.models)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.models)) if self.models.exists() else []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def zh(tmp_path: Path) -> BundleSource:
    return BundleSource("zh", model_folder(tmp_path / "sources", "zh", ZH))


@pytest.fixture
def en(tmp_path: Path) -> BundleSource:
    return BundleSource("en", model_folder(tmp_path / "sources", "en", EN))


def bundle_of(model_id: str, manifest: bytes, files: dict[str, bytes]) -> bytes:
    """A bundle made by hand, of a manifest and files that need not agree."""
    entries = [entry(f"{model_id}/{name}", data) for name, data in files.items()]
    return whole(entry(f"{model_id}/manifest.yaml", manifest), *entries)


def test_a_bundle_is_installed_under_the_name_of_its_manifest(
    store: Store, zh: BundleSource, en: BundleSource
) -> None:
    found = store.install(bundled(zh, en))
    assert [(m.id, f"{m.id}@{m.sha8}", m.folder.name, m.already) for m in found] == [
        ("zh", ZH_NAME, ZH_NAME, False),
        ("en", EN_NAME, EN_NAME, False),
    ]
    assert store.names() == sorted([ZH_NAME, EN_NAME])
    assert files_below(found[0].folder) == {**ZH, "manifest.yaml": manifest_of("zh", ZH)}
    assert store.proven == ["zh", "en"]


def test_a_folder_is_installed_without_a_bundle_on_the_disk(store: Store, zh: BundleSource) -> None:
    seen: list[int] = []
    with bundle_stream([zh], compress=True) as stream:
        (model,) = store.installer().install(stream, progress=seen.append)
    assert (model.folder / "model.onnx").read_bytes() == ZH["model.onnx"]
    assert seen


def test_a_damaged_folder_is_not_installed(store: Store, zh: BundleSource) -> None:
    (zh.folder / "model.onnx").write_bytes(b"Weights of zh" * 100)
    with (
        bundle_stream([zh]) as stream,
        pytest.raises(IntegrityError, match=r"zh/model\.onnx: sha256 is"),
    ):
        store.installer().install(stream)
    assert store.names() == []


def test_a_model_that_is_not_proven_keeps_all_of_its_bundle_out(
    store: Store, zh: BundleSource, en: BundleSource
) -> None:
    store.refuse = {"en"}
    with pytest.raises(GoldenMismatch):
        store.install(bundled(zh, en))
    assert store.proven == ["zh", "en"]
    assert store.names() == []


@pytest.mark.parametrize(
    ("manifest", "files", "error", "reason"),
    [
        (manifest_of("zh", ZH), {"model.onnx": ZH["model.onnx"]}, IntegrityError,
         r"zh/words/tokens\.json: the bundle lacks it"),
        (manifest_of("zh", ZH), {**ZH, "README.md": b""}, BundleError,
         r"zh/README\.md: is not listed in manifest\.yaml"),
        (manifest_of("zh", ZH), {**ZH, "model.onnx": ZH["model.onnx"].upper()}, IntegrityError,
         r"zh/model\.onnx: sha256 is .{8}\.\.\., manifest says .{8}\.\.\."),
        (manifest_of("zh", ZH), {**ZH, "model.onnx": b""}, IntegrityError,
         r"zh/model\.onnx: size is 0, manifest says 1300"),
        (manifest_of("en", ZH), ZH, ManifestError, "the id is 'en', the folder is 'zh'"),
        (b"schema: 2", {}, ManifestError, r"zh/manifest\.yaml: schema is 2"),
        (b"\xff\xff", {}, ManifestError, r"zh/manifest\.yaml: is not valid YAML"),
    ],
    ids=["missing file", "file too many", "other file", "empty file", "other id", "schema",
         "no manifest"],
)  # fmt: skip
def test_files_that_are_not_those_of_the_manifest_are_refused(
    store: Store,
    manifest: bytes,
    files: dict[str, bytes],
    error: type[AgentError],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        store.install(bundle_of("zh", manifest, files))
    assert store.names() == []
    assert store.proven == []


def test_what_is_installed_and_sound_stays_as_it_is(store: Store, zh: BundleSource) -> None:
    (first,) = store.install(bundled(zh))
    before = (first.folder / "model.onnx").stat()
    with pytest.raises(AlreadyInstalled, match=f"{ZH_NAME}: installed already, and sound"):
        store.install(bundled(zh))
    assert (first.folder / "model.onnx").stat().st_ino == before.st_ino
    assert store.names() == [ZH_NAME]
    assert store.proven == ["zh"]


def test_the_new_models_of_a_bundle_are_installed_beside_those_that_are_there(
    store: Store, zh: BundleSource, en: BundleSource
) -> None:
    store.install(bundled(zh))
    found = store.install(bundled(zh, en))
    assert [(model.id, model.already) for model in found] == [("zh", True), ("en", False)]
    assert store.proven == ["zh", "en"]


def test_two_manifests_of_one_id_lie_side_by_side(store: Store, zh: BundleSource) -> None:
    store.install(bundled(zh))
    store.install(bundle_of("zh", manifest_of("zh", EN), EN))
    assert store.names() == sorted([ZH_NAME, name_of("zh", EN)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.onnx").write_bytes(b"Weights of zh" * 100),
        lambda folder: (folder / "words" / "tokens.json").unlink(),
        lambda folder: (folder / "manifest.yaml").write_bytes(b"schema: 1"),
        lambda folder: (folder / "manifest.yaml").unlink(),
        lambda folder: ((folder / "model.onnx").unlink(), os.mkfifo(folder / "model.onnx")),
        lambda folder: (
            folder.rename(folder.parent / "elsewhere"), folder.symlink_to("/nowhere"),
        ),
    ],
    ids=["flipped byte", "missing file", "other manifest", "no manifest", "pipe", "dangling link"],
)  # fmt: skip
def test_installing_again_repairs_a_damaged_model(
    store: Store, zh: BundleSource, damage: Callable[[Path], object]
) -> None:
    (first,) = store.install(bundled(zh))
    damage(first.folder)
    (again,) = store.install(bundled(zh))
    assert (again.folder, again.already) == (first.folder, False)
    assert files_below(again.folder) == {**ZH, "manifest.yaml": manifest_of("zh", ZH)}
    assert [name for name in store.names() if name.startswith(".")] == []
    assert store.proven == ["zh", "zh"]


def test_another_model_of_the_same_eight_digits_is_not_replaced(
    store: Store, zh: BundleSource
) -> None:
    (model,) = store.install(bundled(zh))
    other = dataclasses.replace(read_manifest(model.folder), sha256=model.sha8 + "0" * 56)
    with pytest.raises(BundleError, match=f"another model has the same name {ZH_NAME}"):
        store.installer()._is_sound(model.folder, other)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    generate_key(tmp_path / "a.key", tmp_path / "a.pem")
    return tmp_path / "a.key"


def test_with_trusted_keys_an_unsigned_model_is_refused(
    store: Store, zh: BundleSource, en: BundleSource, key: Path
) -> None:
    keys = TrustedKeys.load([str(key.with_suffix(".pem"))])
    signature = sign(manifest_of("zh", ZH), key)
    signed = BundleSource("zh", zh.folder, manifest_of("zh", ZH), signature)
    of_another = BundleSource("en", en.folder, manifest_of("en", EN), signature)
    for sources, reason in (
        ([zh], r"zh/manifest\.yaml: is not signed"),
        ([signed, en], r"en/manifest\.yaml: is not signed"),
        ([of_another], r"en/manifest\.yaml: the signature is not by a trusted key"),
    ):
        with pytest.raises(SignatureError, match=reason):
            store.install(bundled(*sources), keys=keys)
    assert store.names() == []
    (model,) = store.install(bundled(signed), keys=keys)
    assert (model.folder / "manifest.yaml.sig").read_bytes() == signature


def test_a_model_installed_before_there_were_keys_gets_its_signature(
    store: Store, zh: BundleSource, key: Path
) -> None:
    store.install(bundled(zh))
    signature = sign(manifest_of("zh", ZH), key)
    signed = BundleSource("zh", zh.folder, manifest_of("zh", ZH), signature)
    keys = TrustedKeys.load([str(key.with_suffix(".pem"))])
    (model,) = store.install(bundled(signed), keys=keys)
    assert (model.folder / "manifest.yaml.sig").read_bytes() == signature


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_at_any_operation_leaves_the_old_state(
    tmp_path: Path, zh: BundleSource, en: BundleSource, after: bool
) -> None:
    """The old state: one model damaged, one not there."""
    data = bundled(zh, en)
    done = 0
    for at in range(1000):
        store = Store(tmp_path / f"store-{at}")
        (old,) = store.install(bundled(zh))
        (old.folder / "model.onnx").write_bytes(b"damaged")
        before = store.content()
        try:
            store.install(data, disk=FaultyDisk(at, after=after))
        except Fault:
            assert store.content() == before, at
            assert store.names() == [ZH_NAME], at
        else:
            done = at
            break
    assert done > 20
    assert store.names() == sorted([ZH_NAME, EN_NAME])


def test_a_disk_that_fills_up_at_any_operation_is_told_as_such(
    tmp_path: Path, zh: BundleSource, en: BundleSource
) -> None:
    for at in range(1000):
        store = Store(tmp_path / f"store-{at}")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            store.install(bundled(zh, en), disk=FaultyDisk(at, error=full))
        except NoSpace as error:
            told = error.message
        else:
            break
        assert "the disk is full; remove models" in told
        assert store.names() == []
    assert at > 20


@settings(deadline=None, max_examples=40)
@given(cut=st.floats(0, 1, exclude_max=True), compress=st.booleans())
def test_a_bundle_cut_at_any_byte_installs_nothing(
    tmp_path_factory: pytest.TempPathFactory, cut: float, compress: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    sources = [
        BundleSource("zh", model_folder(folder / "sources", "zh", ZH)),
        BundleSource("en", model_folder(folder / "sources", "en", EN)),
    ]
    data = bundled(*sources, compress=compress)
    store = Store(folder)
    with pytest.raises(BundleError):
        store.install(data[: int(cut * len(data))])
    assert store.names() == []
    assert store.proven == []


def test_what_an_interrupted_install_left_behind_goes_at_the_next_change(
    store: Store, zh: BundleSource
) -> None:
    for rest in (".staging-1/zh/model.onnx", ".trash-2/model.onnx"):
        (store.models / rest).parent.mkdir(parents=True)
        (store.models / rest).write_bytes(b"half")
    (store.models / "notes").mkdir()
    store.install(bundled(zh))
    assert store.names() == sorted(["notes", ZH_NAME])
    (store.models / ".trash-3").mkdir()
    store.installer().remove(ZH_NAME)
    assert store.names() == ["notes"]


def test_only_an_exact_name_is_removed(store: Store, zh: BundleSource) -> None:
    store.install(bundled(zh))
    for name in ("zh", "zh@00000000", "en@00000000", "../zh", ".trash-1", "", "/", "zh@../../.."):
        with pytest.raises(UnknownModel):
            store.installer().remove(name)
    assert store.names() == [ZH_NAME]


def test_a_removal_cut_short_leaves_the_model_or_nothing_of_it(
    tmp_path: Path, zh: BundleSource
) -> None:
    for at, left in ((0, [ZH_NAME]), (1, [])):
        store = Store(tmp_path / str(at))
        store.install(bundled(zh))
        with pytest.raises(Fault):
            store.installer(FaultyDisk(at)).remove(ZH_NAME)
        assert [name for name in store.names() if not name.startswith(".")] == left


def test_everything_is_synced_before_it_gets_its_name(store: Store, zh: BundleSource) -> None:
    done: list[tuple[str, str]] = []

    class Recorder(Disk):
        @contextmanager
        def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
            with super().create(path, mode) as file:
                yield file
            done.append(("file", path.name))

        def sync_folder(self, folder: Path) -> None:
            super().sync_folder(folder)
            done.append(("sync", folder.name))

        def replace(self, source: Path, target: Path) -> None:
            done.append(("rename", target.name))
            super().replace(source, target)

    store.install(bundled(zh), disk=Recorder())
    renamed = done.index(("rename", ZH_NAME))
    last_file = max(i for i, (what, _) in enumerate(done) if what == "file")
    for folder in ("zh", "words"):
        assert ("sync", folder) in done[last_file:renamed]
    assert ("sync", "models") in done[renamed:]


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from agent.store.lock import StoreLock\n"
        "with StoreLock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreBusy, match=f"process {holder.pid} is changing .*try again"),
            StoreLock(state),
        ):
            pass
        holder.kill()
    with StoreLock(state):
        assert (state / "lock").read_text() == f"{os.getpid()}\n"
    assert (state / "lock").read_text() == ""


def test_the_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), lock:
            raise ValueError("inside")
    with StoreLock(tmp_path):
        pass


def test_a_holder_that_is_not_named_is_still_respected(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, match="another process is changing"), StoreLock(tmp_path):
            pass


def test_a_lock_that_can_not_be_opened_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(AgentError, match=r"lock: can't be opened"), StoreLock(tmp_path):
        pass
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_makes_belongs_to_the_owner_of_the_state_folder(
    store: Store, zh: BundleSource, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 1234, 1234)
    with StoreLock(state):
        store.install(bundled(zh))
    assert {path.stat().st_uid for path in state.rglob("*")} == {1234}
