"""Changes of the state folder: whole or not at all, synced in order, and of its owner."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.errors import NoSpace
from agent.store.disk import Disk, require_space

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
OTHER = 12345


class PowerCut(BaseException):
    """Nothing that comes after it happens."""


class CutDisk(Disk):
    """The power goes at a given step; what is under way is not cleaned up either."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._off = False

    def _step(self, name: str) -> None:
        if name == self._at:
            self._off = True
        if self._off:
            raise PowerCut

    @contextmanager
    def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
        self._step("create")
        with super().create(path, mode) as file:
            yield file
        self._step("created")

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync")
        super().sync_folder(folder)

    def remove(self, path: Path) -> None:
        if not self._off:
            super().remove(path)


class RecordingDisk(Disk):
    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def replace(self, source: Path, target: Path) -> None:
        self.done.append(("replace", target.name))
        super().replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        self.done.append(("sync", folder.name))
        super().sync_folder(folder)


def test_a_file_is_written_in_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for data in (b"first", b"the second, which is longer", b""):
        Disk().write(path, data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("at", "left"),
    [("create", b"old"), ("created", b"old"), ("replace", b"old"), ("sync", b"new")],
)
def test_a_write_that_is_cut_leaves_one_whole_file(tmp_path: Path, at: str, left: bytes) -> None:
    path = tmp_path / "a.json"
    Disk().write(path, b"old")
    with pytest.raises(PowerCut):
        CutDisk(at).write(path, b"new")
    assert path.read_bytes() == left
    Disk().write(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_write_that_fails_leaves_nothing_beside_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    Disk().write(path, b"old")
    with pytest.raises(TypeError):
        Disk().write(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_write_follows_no_link(tmp_path: Path) -> None:
    """Neither the file that is replaced nor the one beside it leads elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    path = tmp_path / "a.json"
    path.symlink_to(elsewhere)
    (tmp_path / f".a.json.{os.getpid()}.new").symlink_to(elsewhere)
    Disk().write(path, b"new")
    assert elsewhere.read_bytes() == b"mine"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


def test_a_new_file_is_never_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError), Disk().create(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_has_its_mode_from_the_beginning(tmp_path: Path, mode: int) -> None:
    with Disk().create(tmp_path / "a", mode) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~mode == 0
    Disk().write(tmp_path / "b", b"secret", mode)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) & ~mode == 0


def test_the_folders_of_a_rename_are_synced_after_it(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "a").write_bytes(b"")
    disk = RecordingDisk()
    disk.replace(tmp_path / "from" / "a", tmp_path / "to" / "b")
    assert disk.done == [("replace", "b"), ("sync", "to"), ("sync", "from")]
    disk.done.clear()
    disk.write(tmp_path / "to" / "c", b"data")
    assert disk.done == [("replace", "c"), ("sync", "to")]


def test_folders_are_made_with_their_parents_from_the_top(tmp_path: Path) -> None:
    disk = RecordingDisk()
    disk.make_folder(tmp_path / "a" / "b" / "c")
    assert disk.done == [("sync", tmp_path.name), ("sync", "a"), ("sync", "b")]
    disk.done.clear()
    disk.make_folder(tmp_path / "a" / "b" / "c")
    assert disk.done == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        disk.make_folder(tmp_path / "file" / "d")


def test_a_folder_is_removed_with_all_in_it_and_a_link_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(folder)
    Disk().remove(link)
    assert (folder / "inner" / "a").exists()
    for path in (folder, folder, tmp_path / "absent"):
        Disk().remove(path)
    assert os.listdir(tmp_path) == []


@AS_ROOT
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, OTHER, OTHER + 1)
    disk = Disk()
    disk.make_folder(state / "models" / "deep")
    disk.write(state / "roles.yaml", b"")
    with disk.create(state / "models" / "deep" / "a"):
        pass
    made = [state / "models", state / "models" / "deep", state / "roles.yaml"]
    for path in [*made, state / "models" / "deep" / "a"]:
        assert (path.stat().st_uid, path.stat().st_gid) == (OTHER, OTHER + 1)


@AS_ROOT
def test_what_root_makes_in_its_own_folder_stays_its_own(tmp_path: Path) -> None:
    Disk().write(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_uid == 0


def test_room_is_asked_for_before_it_is_needed(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there" / "yet", 1 << 20)
    with pytest.raises(NoSpace) as caught:
        require_space(tmp_path / "not" / "there" / "yet", 1 << 60)
    assert caught.value.message.startswith(f"{tmp_path} has ")
    assert f" MB free, {(1 << 40) + 64} MB are needed; " in caught.value.message
    assert "remove models that are not used" in caught.value.message


def test_a_reserve_stays_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoSpace):
        require_space(tmp_path, 1, reserve=2 * free)
    require_space(tmp_path, 1, reserve=0)
