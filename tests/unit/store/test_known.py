"""The list of published models, and who is on it."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.store.known import is_pinned, known_models, published_revision, recognise
from agent.store.manifest import PROVIDERS, TASKS, ListedFile, Manifest, Variant, is_model_id
from agent.store.names import unsafe_name

CHECKSUMS = Path(__file__).resolve().parents[4] / "shared" / "published-checksums.tsv"

ONLINE = known_models()["paraformer-zh-streaming"]
VAD = known_models()["fsmn-vad"]
OTHER = "f" * 64


def published(model, revision=""):
    """The files of a model in their first form, or in the one of `revision`."""
    files = {}
    for name, file in model.files.items():
        forms = [form for form in file.known if form.revision == revision] or list(file.known)
        if forms:
            files[name] = ListedFile(forms[0].size or 1, forms[0].sha256)
    return files


def manifest(model, files, variants=None):
    return Manifest(
        id="anything",
        family=model.family,
        task=model.task,
        files=files,
        variants=model.variants if variants is None else variants,
        sha256="",
    )


@pytest.mark.parametrize("model", known_models().values(), ids=lambda model: model.id)
def test_an_entry_of_the_list_is_complete(model):
    assert is_model_id(model.id)
    assert model.task in TASKS
    assert model.languages
    assert model.license
    assert set(model.source) == {"name", "revision"}
    assert model.requires.memory_mb > 0
    for variant in model.variants:
        assert variant.provider in PROVIDERS
        assert "model" in variant.graphs
        assert all(model.files[name].known for name in variant.graphs.values())
    for name, file in model.files.items():
        assert not unsafe_name(name)
        assert "/" not in name
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in file.sha256)
        assert len(set(file.sha256)) == len(file.sha256)


@pytest.mark.parametrize("model", known_models().values(), ids=lambda model: model.id)
def test_published_files_are_recognised_as_their_model(model):
    files = published(model)
    assert recognise(files, model.family) == model
    assert is_pinned(manifest(model, files))


@pytest.mark.parametrize("model", known_models().values(), ids=lambda model: model.id)
def test_any_changed_file_with_a_known_hash_makes_a_model_unpinned(model):
    for name in published(model):
        files = {**published(model), name: ListedFile(1, OTHER)}
        assert recognise(files, model.family) is None, name
        assert not is_pinned(manifest(model, files)), name


def test_a_model_is_recognised_for_its_own_family_only():
    assert recognise(published(VAD), "paraformer") is None


def test_files_without_a_known_hash_are_not_judged():
    files = {
        **published(VAD),
        "README.md": ListedFile(1, OTHER),
        "golden.wav": ListedFile(1, OTHER),
    }
    assert recognise(files, "fsmn_vad") == VAD


def test_a_side_file_that_is_not_there_contradicts_nothing():
    files = published(VAD)
    del files["config.yaml"]
    assert recognise(files, "fsmn_vad") == VAD


def test_an_unknown_graph_beside_the_published_ones_makes_a_model_unpinned():
    files = {**published(VAD), "model.onnx": ListedFile(1, OTHER)}
    assert recognise(files, "fsmn_vad") is None
    assert not is_pinned(manifest(VAD, files))


def test_a_missing_graph_makes_a_model_unpinned():
    files = published(ONLINE)
    del files["decoder_quant.onnx"]
    assert recognise(files, ONLINE.family) is None


@pytest.mark.parametrize("revision", ["8379db60b12deddfd8ddc95350c2bbd8e058667c", "master"])
def test_each_revision_is_recognised_and_named(revision):
    files = published(ONLINE, revision)
    assert recognise(files, ONLINE.family) == ONLINE
    assert published_revision(ONLINE, files) == revision


def test_a_revision_that_nobody_states_is_called_unknown():
    model = known_models()["paraformer-zh"]
    assert published_revision(model, published(model)) == "unknown"


def test_graphs_of_two_revisions_were_never_published_together():
    files = {
        **published(ONLINE, "master"),
        "decoder_quant.onnx": published(ONLINE)["decoder_quant.onnx"],
    }
    assert recognise(files, ONLINE.family) is None
    assert not is_pinned(manifest(ONLINE, files))


def test_pinned_is_computed_and_never_claimed():
    files = {**published(VAD), "model_quant.onnx": ListedFile(506744, OTHER)}
    claimed = replace(manifest(VAD, files), id="fsmn-vad", source=dict(VAD.source))
    assert not is_pinned(claimed)


def test_a_manifest_that_swaps_the_graphs_is_not_pinned():
    swapped = Variant("int8", "cpu", {"model": "decoder_quant.onnx", "decoder": "model_quant.onnx"})
    assert not is_pinned(manifest(ONLINE, published(ONLINE), (swapped,)))


def test_a_variant_of_unknown_graphs_is_not_pinned_whatever_their_names():
    more = Variant("more", "cpu", {"model": "weights.bin"})
    files = {**published(VAD), "weights.bin": ListedFile(1, OTHER)}
    assert not is_pinned(manifest(VAD, files, (*VAD.variants, more)))


def test_the_size_of_a_file_is_known_when_that_of_each_form_is():
    assert VAD.files["am.mvn"].size == 8040
    assert VAD.files["config.yaml"].size is None
    assert VAD.files["README.md"].size is None


OWNERS = {
    "iic/speech_paraformer-large-contextual...-onnx": ["paraformer-zh-contextual"],
    "iic/speech_fsmn_vad_zh-cn-16k-common-pytorch": ["fsmn-vad"],
    "iic/SenseVoiceSmall": ["sensevoice-small"],
    "paraformer 8404": ["paraformer-zh", "paraformer-zh-streaming", "paraformer-zh-contextual"],
    "paraformer/SenseVoice": [
        "paraformer-zh",
        "paraformer-zh-streaming",
        "paraformer-zh-contextual",
        "sensevoice-small",
    ],
    **{model.source["name"]: [model.id] for model in known_models().values()},
}
"""How the table of checksums names a model -> our models that the row is about."""


def checksums():
    """(id, file, hash) -> (size or None, revision) of every row that is about our models."""
    rows = {}
    with open(CHECKSUMS, encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            name, _, rest = row["model"].partition(" (")
            name, _, commit = name.partition(" @")
            revision = commit or (rest.rstrip(")") if rest == "master)" else "")
            size = int(row["bytes"]) if row["bytes"] else None
            for owner in OWNERS.get(row["model"], OWNERS.get(name, [])):
                rows[owner, row["file"], row["sha256"]] = (size, revision)
    return rows


@pytest.mark.skipif(not CHECKSUMS.is_file(), reason="no table of checksums (../shared)")
def test_the_list_says_what_the_table_of_published_checksums_says():
    """Both ways: no hash that is not in the table, none of the table left out."""
    listed = {
        (model.id, name, form.sha256): (form.size, form.revision)
        for model in known_models().values()
        for name, file in model.files.items()
        for form in file.known
    }
    weights = {key: value for key, value in checksums().items() if key[1] != "model.pt"}
    assert listed == weights
    assert len(listed) > 30
