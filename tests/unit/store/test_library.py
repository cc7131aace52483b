"""Finding models by name, and what is not even looked into."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import IntegrityError, ManifestError, ModelError, SignatureError, UnknownModel
from agent.store.embedded import EMBEDDED
from agent.store.library import FoundModel, Library, UnreadableModel
from agent.store.manifest import is_model_id, read_manifest
from agent.store.refs import ModelRef, parse_ref
from agent.store.trust import TrustedKeys, generate_key, sign_folder
from tests.model_loading.tiny_models import Files, vad_files, write_model

FILES: Files = {"model.onnx": b"a graph"}


def install_by_hand(state: Path, model_id: str, files: Files | None = None, **more: Any) -> Path:
    """A model in the folder of installed models, as the installer leaves it."""
    folder = write_model(state / "models", model_id, FILES if files is None else files, **more)
    return folder.rename(f"{folder}@{read_manifest(folder).sha8}")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return tmp_path / "shipped"


@pytest.fixture
def library(state: Path, shipped: Path) -> Library:
    return Library(state / "models", shipped)


def copied(root: Path, shipped: Path, model_id: str = "builtin-vad") -> Path:
    return Path(shutil.copytree(root / "models" / model_id, shipped / model_id))


def append(folder: Path) -> None:
    with open(folder / "manifest.yaml", "ab") as file:
        file.write(b"# one word more\n")


def names(library: Library) -> list[str]:
    return [m.name if isinstance(m, UnreadableModel) else str(m.ref) for m in library.all()]


def test_an_installed_model_is_found_by_its_id_and_by_its_exact_name(
    library: Library, state: Path
) -> None:
    folder = install_by_hand(state, "lab")
    for name in ("lab", folder.name):
        found = library.find(parse_ref(name))
        assert (str(found.ref), found.folder, found.installed) == (folder.name, folder, True)
        assert found.manifest.id == "lab"


def test_a_shipped_model_is_found_by_its_id_and_by_its_exact_name(
    library: Library, shipped: Path
) -> None:
    folder = write_model(shipped, "lab", FILES)
    sha8 = read_manifest(folder).sha8
    for name in ("lab", f"lab@{sha8}"):
        found = library.find(parse_ref(name))
        assert (str(found.ref), found.folder, found.installed) == (f"lab@{sha8}", folder, False)


def test_a_shipped_model_that_was_replaced_by_an_update_is_found_under_its_old_name(
    library: Library, shipped: Path
) -> None:
    folder = write_model(shipped, "lab", FILES)
    found = library.find(ModelRef("lab", "0" * 8))
    assert found.ref == ModelRef("lab", read_manifest(folder).sha8)


def test_an_id_alone_names_the_newest_installed_model(
    library: Library, state: Path, shipped: Path
) -> None:
    write_model(shipped, "lab", FILES)
    folders = [install_by_hand(state, "lab", license=text) for text in ("a", "b", "c")]
    install_by_hand(state, "lab-2")
    for newest in folders:
        for folder in folders:
            os.utime(folder, (0, 200 if folder is newest else 100))
        assert library.find(parse_ref("lab")).folder == newest
        assert library.find(parse_ref(folders[0].name)).folder == folders[0]


@pytest.mark.parametrize("name", ["lab", "lab@00000000", "none"])
def test_a_model_that_is_not_here_is_told_with_the_places_looked_at(
    library: Library, state: Path, shipped: Path, name: str
) -> None:
    with pytest.raises(UnknownModel) as caught:
        library.find(parse_ref(name))
    assert caught.value.message == (
        f"{name} is not here: no manifest.yaml in {shipped / name.partition('@')[0]}, nothing in "
        f"{state / 'models'}; install the model or change models.*"
    )


def test_an_installed_model_whose_manifest_was_changed_is_refused(
    library: Library, state: Path
) -> None:
    folder = install_by_hand(state, "lab")
    append(folder)
    for name in ("lab", folder.name):
        with pytest.raises(IntegrityError, match="the folder's name says") as caught:
            library.find(parse_ref(name))
        assert caught.value.file == f"{folder.name}/manifest.yaml"


def test_a_folder_that_holds_another_model_is_refused(library: Library, state: Path) -> None:
    folder = install_by_hand(state, "lab")
    other = folder.rename(folder.with_name(folder.name.replace("lab", "bal")))
    with pytest.raises(ManifestError, match="the id is 'lab', the folder is 'bal@"):
        library.find(parse_ref(other.name))


def test_an_embedded_model_whose_manifest_was_changed_is_refused(
    root: Path, library: Library, shipped: Path
) -> None:
    folder = copied(root, shipped)
    assert library.find(parse_ref("builtin-vad")).folder == folder
    append(folder)
    came = f"this version of the agent came with {EMBEDDED['builtin-vad'][:8]}"
    with pytest.raises(IntegrityError, match=came) as e:
        library.find(parse_ref("builtin-vad"))
    assert "install the agent again" in e.value.message


def test_with_trusted_keys_only_the_embedded_models_need_no_signature(
    root: Path, state: Path, shipped: Path, tmp_path: Path
) -> None:
    generate_key(tmp_path / "own.key", tmp_path / "own.pub")
    generate_key(tmp_path / "other.key", tmp_path / "other.pub")
    library = Library(state / "models", shipped, TrustedKeys.load([str(tmp_path / "own.pub")]))
    copied(root, shipped)
    models = [install_by_hand(state, "lab"), write_model(shipped, "came-with-it", FILES)]
    assert library.find(parse_ref("builtin-vad")).ref.id == "builtin-vad"
    for folder in models:
        with pytest.raises(SignatureError, match="is not signed"):
            library.find(parse_ref(folder.name))
        sign_folder(folder, tmp_path / "other.key")
        with pytest.raises(SignatureError, match="not by a trusted key"):
            library.find(parse_ref(folder.name))
        sign_folder(folder, tmp_path / "own.key")
        assert library.find(parse_ref(folder.name)).folder == folder
        (folder / "manifest.yaml.sig").write_bytes(b"0" * 5000)
        with pytest.raises(SignatureError, match=r"has 4096 bytes"):
            library.find(parse_ref(folder.name))
        (folder / "manifest.yaml.sig").unlink()
        (folder / "manifest.yaml.sig").mkdir()
        with pytest.raises(IntegrityError, match=r"sig: can't be read \(Is a directory\)"):
            library.find(parse_ref(folder.name))


def test_all_models_are_listed_and_unreadable_ones_with_their_reason(
    root: Path, library: Library, state: Path, shipped: Path
) -> None:
    copied(root, shipped)
    write_model(shipped, "another", FILES)
    sound = install_by_hand(state, "lab")
    changed = install_by_hand(state, "changed")
    append(changed)
    (state / "models" / "empty@00000000").mkdir()
    listed = list(library.all())
    assert names(library)[:3] == [changed.name, "empty@00000000", sound.name]
    assert [(type(m), m.installed) for m in listed] == [
        (UnreadableModel, True),
        (UnreadableModel, True),
        (FoundModel, True),
        (FoundModel, False),
        (FoundModel, False),
    ]
    first, second = listed[:2]
    assert isinstance(first, UnreadableModel)
    assert isinstance(second, UnreadableModel)
    assert (first.error.code, second.error.code) == ("integrity", "bad_manifest")
    assert "can't be read (No such file or directory); install it again" in second.error.message


@pytest.mark.parametrize(
    "name",
    [".staging-0a", ".trash-0a", "Lab@00000000", "lab", "lab@0000000", "lab@0000000g", "lab@", "@0",
     "lab@00000000@00000000", "lost+found", "-lab@00000000", "l b@00000000"],
)  # fmt: skip
def test_folders_of_another_name_are_passed_over(library: Library, state: Path, name: str) -> None:
    folder = install_by_hand(state, "lab")
    shutil.copytree(folder, folder.with_name(name))
    assert names(library) == [folder.name]
    assert library.find(parse_ref("lab")).folder == folder


def test_files_and_exact_names_beside_shipped_models_are_passed_over(
    library: Library, shipped: Path
) -> None:
    folder = write_model(shipped, "lab", FILES)
    shutil.copytree(folder, shipped / f"lab@{read_manifest(folder).sha8}")
    (shipped / "README.md").write_text("models")
    (shipped / "readme").write_text("models")
    assert len(names(library)) == 1


def test_without_any_folder_nothing_is_listed(library: Library) -> None:
    assert names(library) == []


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        b"a: !!int ''",
        b"a: !!float ''",
        b"a: !!bool perhaps",
        b"a: !!timestamp today",
        b"a: !!map [x]",
        b"a: !!set [x]",
        b'schema: 1\nid: "\\ud800"',
        b'"\\udfff": 1',
        b"schema: 0x" + b"f" * 100_000,
        b"schema: 1" + b":1" * 100_000,
        b"schema: 1" + b":1" * 100_000 + b".5",
        b"schema: " + b"9" * 100_000,
        f"{BOMB}schema: *a12".encode(),
        f"{BOMB}schema: 1\nid: *a12\nsource: {{name: *a12}}\nlanguages: *a12".encode(),
        f"{BOMB}schema: 1\ngolden: {{audio: *a12, text: *a12}}\nvariants: *a12".encode(),
        f"{BOMB}schema: 1\nvariants: [{{name: *a12, provider: *a12, graphs: *a12}}]".encode(),
        b"a: &a {x: 1}\nb: {<<: [*a, *a]}",
        b"a: &a [*a]\nschema: *a",
        b"[" * 5_000,
        b"- 1",
        b"\x00",
    ],
    ids=lambda text: str(text[:24] + text[-12:]),
)
def test_a_manifest_that_means_harm_is_listed_as_unreadable(
    library: Library, state: Path, text: bytes
) -> None:
    folder = state / "models" / "lab@00000000"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_bytes(text)
    (found,) = library.all()
    assert isinstance(found, UnreadableModel)
    assert found.error.code == "bad_manifest"
    assert len(found.error.message.encode()) < 2000
    with pytest.raises(ManifestError):
        library.find(parse_ref("lab"))


# Names.


@pytest.mark.parametrize("text", ["lab", "a", "paraformer-zh.v2_1", "lab@0123abcd", "0@00000000"])
def test_a_name_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_ref(text)) == text


@given(st.text(max_size=12) | st.text("ab@/.0 ", max_size=12))
def test_any_text_is_a_safe_name_or_refused(text: str) -> None:
    try:
        ref = parse_ref(text)
    except UnknownModel:
        return
    assert str(ref) == text
    assert is_model_id(ref.id)
    assert "/" not in text
    assert not text.startswith(".")


@pytest.mark.parametrize("text", ["", "@00000000", "Lab", "../lab", "lab@", "lab@0123ABCD", "l\n"])
def test_what_is_no_name_is_told(text: str) -> None:
    with pytest.raises(UnknownModel, match="is not a model id") as caught:
        parse_ref(text)
    assert repr(text) in caught.value.message
    assert isinstance(caught.value, ModelError)


def test_a_name_without_a_hash_matches_every_manifest_of_its_id() -> None:
    exact = ModelRef("lab", "00000000")
    assert ModelRef("lab").matches(exact)
    assert exact.matches(exact)
    assert not ModelRef("lab", "11111111").matches(exact)
    assert not ModelRef("bal").matches(exact)


def test_a_model_with_real_graphs_is_found_without_reading_them(
    library: Library, state: Path
) -> None:
    folder = install_by_hand(state, "lab", vad_files())
    (folder / "model.onnx").unlink()
    assert library.find(parse_ref("lab")).manifest.files["model.onnx"].size > 0
