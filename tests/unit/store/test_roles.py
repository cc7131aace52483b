"""roles.yaml: what was chosen, what served before, and what of it can't be believed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.disk import Disk
from agent.store.refs import ModelRef
from agent.store.roles import ROLES, Role, RoleChoice, RolesFile
from agent.store.strict_yaml import MAX_MANIFEST_BYTES
from tests.unit.store.test_choices import JSON

A, B, C = (ModelRef(name, "0123abcd") for name in "abc")
TREE = {"vad": {"model": "a@0123abcd", "previous": "b@0123abcd"}, "punctuation": {"model": "none"}}


class FullDisk(Disk):
    """No file can be written to its end; or none put in place of another."""

    def __init__(self, fails: str) -> None:
        self._fails = fails

    @contextmanager
    def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
        with super().create(path, mode) as file:
            yield file
            if self._fails == "create":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def replace(self, source: Path, target: Path) -> None:
        if self._fails == "replace":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().replace(source, target)


class QuickDisk(Disk):
    """Syncs nothing, for tests of many steps."""

    @contextmanager
    def create(self, path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
        with open(path, "xb") as file:
            yield file

    def sync_folder(self, folder: Path) -> None:
        return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "roles.yaml"


@pytest.fixture
def roles(path: Path) -> RolesFile:
    return RolesFile(path, Disk())


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_without_a_file_nothing_is_chosen(roles: RolesFile) -> None:
    assert roles.read() == ({}, "")


def test_a_choice_is_read_as_it_was_written(roles: RolesFile, path: Path) -> None:
    roles.choose("vad", A, None)
    roles.choose("asr_offline", B, A)
    roles.choose("punctuation", ModelRef("none"), None)
    roles.choose("vad", B, A)
    assert roles.read() == (
        {
            "vad": RoleChoice(B, A),
            "asr_offline": RoleChoice(B, A),
            "punctuation": RoleChoice(ModelRef("none"), None),
        },
        "",
    )
    assert yaml.safe_load(path.read_bytes()) == {
        "asr_offline": {"model": "b@0123abcd", "previous": "a@0123abcd"},
        "punctuation": {"model": "none"},
        "vad": {"model": "b@0123abcd", "previous": "a@0123abcd"},
    }
    assert path.read_text().startswith("# Written by funasr-agent")
    assert [entry.name for entry in path.parent.iterdir()] == ["roles.yaml"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"vad: {model: a@0123abcd", "is not valid YAML"),
        (b"vad: a@0123abcd", "vad must have a `model`"),
        (b"vad: {}", "vad must have a `model`"),
        (b"vad: {model: 7}", "vad must have a `model`"),
        (b"vad: {model: a, previous: [b]}", "vad.previous must be a model"),
        (b"vad: {model: ../../etc}", "'../../etc' is not a model id"),
        (b"vad: {model: a, previous: A}", "'A' is not a model id"),
        (b"ears: {model: a}", "unknown role ears"),
        (b"7: {model: a}\nears: {model: a}", "unknown role 7, ears"),
        (b"- vad", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"vad: {model: a}\nvad: {model: b}", "appears twice"),
        (b"vad: !!int ''", "a value does not fit its tag"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"#" * (MAX_MANIFEST_BYTES + 1), "is larger than"),
    ],
)
def test_a_damaged_file_counts_as_none_and_is_left_alone(
    roles: RolesFile, path: Path, data: bytes, told: str
) -> None:
    put(path, data)
    choices, problem = roles.read()
    assert choices == {}
    assert told in problem
    assert problem.endswith(
        "the configured lists serve; `funasr-agent models use ROLE=ID` writes it anew"
    )
    assert path.read_bytes() == data


def test_one_bad_role_spoils_the_file(roles: RolesFile, path: Path) -> None:
    """Half of what the owner chose is not what the owner chose."""
    put(path, b"vad: {model: a@0123abcd}\nasr_offline: {model: 3}\n")
    assert roles.read()[0] == {}


def test_a_file_that_can_not_be_read_is_told_with_its_path(roles: RolesFile, path: Path) -> None:
    path.mkdir(parents=True)
    choices, problem = roles.read()
    assert choices == {}
    assert f"Is a directory: '{path}'" in problem


def test_a_choice_writes_a_damaged_file_anew(roles: RolesFile, path: Path) -> None:
    put(path, b"vad: {")
    roles.choose("vad", A, None)
    assert roles.read() == ({"vad": RoleChoice(A)}, "")


@pytest.mark.parametrize("fails", ["create", "replace"])
def test_a_write_that_fails_leaves_the_old_file(roles: RolesFile, path: Path, fails: str) -> None:
    roles.choose("vad", A, B)
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"No space left|Input/output"):
        RolesFile(path, FullDisk(fails)).choose("vad", C, A)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["roles.yaml"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ROLES),
            st.sampled_from([A, B, C, ModelRef("d")]),
            st.sampled_from([None, A, B]),
        ),
        max_size=8,
    )
)
def test_each_choice_changes_its_role_alone(
    changes: list[tuple[Role, ModelRef, ModelRef | None]],
) -> None:
    expected: dict[Role, RoleChoice] = {}
    with tempfile.TemporaryDirectory() as folder:
        for role, model, previous in changes:
            RolesFile(Path(folder) / "roles.yaml", QuickDisk()).choose(role, model, previous)
            expected[role] = RoleChoice(model, previous)
        assert RolesFile(Path(folder) / "roles.yaml", Disk()).read() == (expected, "")


@settings(max_examples=100, deadline=None)
@given(
    tree=JSON | st.dictionaries(st.sampled_from([*ROLES, "ears"]), JSON, max_size=3),
    at=st.sampled_from([None, "model", "previous"]),
)
def test_no_tree_raises(tree: Any, at: str | None) -> None:
    if at is not None:
        tree = {**TREE, "vad": {**TREE["vad"], at: tree}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roles.yaml"
        path.write_bytes(yaml.safe_dump(tree).encode())
        choices, problem = RolesFile(path, Disk()).read()
        assert not (choices and problem)
