"""Level 1: a model whose files are not exactly those of its manifest is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import IntegrityError, ManifestError, ModelError
from agent.store.manifest import parse_manifest, read_manifest
from agent.store.verify import VerifiedModel, read_verified

from .conftest import MakeModel

CPU = 1


def verify(folder: Path) -> VerifiedModel:
    manifest = read_manifest(folder)
    return read_verified(manifest, folder, manifest.variants[CPU])


def test_a_sound_model_hands_on_its_bytes(make_model: MakeModel) -> None:
    folder = make_model()
    files = verify(folder)
    assert files.model_id == "one"
    assert files.read("vocabulary/tokens.json") == b'["<blank>", "a", "<unk>"]'
    assert files.graph("model") == (folder / "model_quant.onnx").read_bytes()
    assert files.has("am.mvn")
    assert not files.has("other")


def test_the_bytes_handed_on_are_those_that_were_hashed(make_model: MakeModel) -> None:
    folder = make_model()
    original = (folder / "model_quant.onnx").read_bytes()
    files = verify(folder)
    (folder / "model_quant.onnx").write_bytes(b"changed after the verification")
    assert files.graph("model") == original


def test_a_flipped_byte_is_refused(make_model: MakeModel) -> None:
    folder = make_model()
    data = bytearray((folder / "model_quant.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model_quant.onnx").write_bytes(data)
    with pytest.raises(
        IntegrityError,
        match=r"model_quant\.onnx: sha256 is [0-9a-f]{8}\.\.\., manifest says "
        r"[0-9a-f]{8}\.\.\.; install the bundle again",
    ) as caught:
        verify(folder)
    assert caught.value.file == "model_quant.onnx"


def test_a_flipped_byte_in_a_graph_of_another_variant_is_refused(make_model: MakeModel) -> None:
    folder = make_model()
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.onnx: sha256"):
        verify(folder)


def test_a_truncated_file_is_refused(make_model: MakeModel) -> None:
    folder = make_model()
    data = (folder / "model_quant.onnx").read_bytes()
    (folder / "model_quant.onnx").write_bytes(data[:-3])
    with pytest.raises(IntegrityError, match=f"size is {len(data) - 3}, manifest says {len(data)}"):
        verify(folder)


def test_a_file_that_grew_is_refused(make_model: MakeModel) -> None:
    folder = make_model()
    with open(folder / "am.mvn", "ab") as file:
        file.write(b"more")
    with pytest.raises(IntegrityError, match=r"am\.mvn: size is 14, manifest says 10"):
        verify(folder)


def test_a_missing_file_is_named(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "vocabulary" / "tokens.json").unlink()
    with pytest.raises(IntegrityError, match=r"vocabulary/tokens\.json: is missing"):
        verify(folder)


def test_swapped_files_are_refused_and_both_are_named(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "am.mvn").rename(folder / "aside")
    (folder / "vocabulary" / "tokens.json").rename(folder / "am.mvn")
    (folder / "aside").rename(folder / "vocabulary" / "tokens.json")
    with pytest.raises(IntegrityError) as caught:
        verify(folder)
    assert "am.mvn: size" in caught.value.message
    assert "vocabulary/tokens.json: size" in caught.value.message


def test_a_link_put_there_after_parsing_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model()
    manifest = read_manifest(folder)
    outside = tmp_path / "am.mvn"
    (folder / "am.mvn").rename(outside)
    (folder / "am.mvn").symlink_to(outside)
    with pytest.raises(IntegrityError, match=r"am\.mvn: is a symbolic link"):
        read_verified(manifest, folder)


def test_a_linked_subfolder_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model()
    manifest = read_manifest(folder)
    (folder / "vocabulary").rename(tmp_path / "vocabulary")
    (folder / "vocabulary").symlink_to(tmp_path / "vocabulary")
    with pytest.raises(IntegrityError, match=r"vocabulary/tokens\.json: can't be opened"):
        read_verified(manifest, folder)
    with pytest.raises(ManifestError, match="is a symbolic link"):
        read_manifest(folder)


def test_a_fifo_is_refused_without_waiting_for_a_writer(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "am.mvn").unlink()
    os.mkfifo(folder / "am.mvn")
    with pytest.raises(IntegrityError, match=r"am\.mvn: is not a regular file"):
        verify(folder)


def test_a_folder_in_place_of_a_file_is_refused(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "am.mvn").unlink()
    (folder / "am.mvn").mkdir()
    with pytest.raises(IntegrityError, match=r"am\.mvn: is not a regular file"):
        verify(folder)


def test_a_path_that_escapes_is_refused_before_anything_is_read(make_model: MakeModel) -> None:
    folder = make_model()
    (folder.parent / "secret").write_bytes(b"s")
    text = (folder / "manifest.yaml").read_text().replace("am.mvn", "../secret")
    with pytest.raises(ManifestError, match="leaves the model's folder"):
        parse_manifest(text.encode(), folder)


def test_graphs_of_other_variants_are_not_held(make_model: MakeModel) -> None:
    files = verify(make_model())
    with pytest.raises(ModelError, match=r"model\.onnx: its bytes are not kept"):
        files.read("model.onnx")


def test_released_bytes_are_gone(make_model: MakeModel) -> None:
    with verify(make_model()) as files:
        files.graph("model")
    with pytest.raises(ModelError, match="not kept"):
        files.graph("model")


def test_what_the_manifest_does_not_list_can_not_be_read(make_model: MakeModel) -> None:
    files = verify(make_model())
    with pytest.raises(ManifestError, match=r"extra\.txt: the manifest of one does not list it"):
        files.read("extra.txt")
    with pytest.raises(ManifestError, match="variant int8 of one has no graph 'decoder'"):
        files.graph("decoder")


def test_without_a_choice_the_first_variant_is_read(make_model: MakeModel) -> None:
    folder = make_model()
    assert read_verified(read_manifest(folder), folder).variant.name == "fp32"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(make_model: MakeModel) -> None:
    folder = make_model()
    (folder / "am.mvn").chmod(0)
    with pytest.raises(IntegrityError, match=r"am\.mvn: can't be opened \(Permission denied\)"):
        verify(folder)
