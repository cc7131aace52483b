"""The models that come with the agent are known by their hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store.embedded import EMBEDDED, EMBEDDED_OF_ROLE, EMBEDDED_PREFIX
from agent.store.library import FoundModel, Library, UnreadableModel
from agent.store.manifest import read_manifest
from agent.store.roles import ROLES
from agent.store.verify import read_verified


@pytest.mark.parametrize("model_id", sorted(EMBEDDED))
def test_the_hash_in_the_code_is_that_of_the_manifest(root: Path, model_id: str) -> None:
    """`scripts/train` writes models/<id>/manifest.yaml anew: then copy the SHA-256 that this test
    finds (`sha256sum models/*/manifest.yaml`) into `agent.store.embedded.EMBEDDED`, in the same
    commit. Where only a manifest was edited by hand, that edit is what is wrong.
    """
    assert EMBEDDED[model_id] == read_manifest(root / "models" / model_id).sha256


@pytest.mark.parametrize("model_id", sorted(EMBEDDED))
def test_its_files_are_those_of_the_manifest(root: Path, model_id: str) -> None:
    folder = root / "models" / model_id
    manifest = read_manifest(folder)
    with read_verified(manifest, folder) as files:
        assert files.graph("model")
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.yaml"}


def test_every_shipped_model_is_an_embedded_one(root: Path) -> None:
    found = list(Library(root / "none", root / "models").all())
    assert all(isinstance(model, FoundModel) for model in found)
    assert {model.ref.id for model in found if isinstance(model, FoundModel)} == set(EMBEDDED)


def test_each_serves_the_role_that_it_is_the_last_resort_of(root: Path) -> None:
    for role, model_id in EMBEDDED_OF_ROLE.items():
        assert model_id in EMBEDDED
        assert read_manifest(root / "models" / model_id).task == role
    assert set(EMBEDDED_OF_ROLE) == set(ROLES) - {"punctuation"}


def test_only_the_very_manifest_is_taken_for_an_embedded_one(root: Path) -> None:
    assert all(model_id.startswith(EMBEDDED_PREFIX) for model_id in EMBEDDED)
    others = Library(root / "none", root / "models", embedded=dict.fromkeys(EMBEDDED, "0" * 64))
    found = list(others.all())
    assert len(found) == len(EMBEDDED)
    assert all(isinstance(model, UnreadableModel) for model in found)
    assert all("came with 00000000" in str(getattr(model, "error", "")) for model in found)
