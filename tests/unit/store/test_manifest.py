"""manifest.yaml: what is accepted, and that each problem is named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import ManifestError
from agent.store.manifest import GoldenClip, Manifest, parse_manifest, read_manifest
from agent.store.strict_yaml import MAX_MANIFEST_BYTES

SHA = "ab" * 32
FULL: dict[str, Any] = {
    "schema": 1,
    "id": "paraformer-zh",
    "family": "paraformer",
    "task": "asr_offline",
    "languages": ["zh", "en"],
    "license": "Apache-2.0",
    "source": {"name": "own training", "revision": 3},
    "sample_rate": 16000,
    "files": {
        "model_quant.onnx": {"size": 10, "sha256": SHA},
        "model.onnx": {"size": 20, "sha256": SHA.upper()},
        "golden.wav": {"size": 5, "sha256": SHA},
    },
    "variants": [
        {"name": "int8", "provider": "cpu", "graphs": {"model": "model_quant.onnx"}},
        {"name": "fp32", "provider": "cuda", "graphs": {"model": "model.onnx"}},
    ],
    "requires": {"onnxruntime": ">=1.17", "memory_mb": 400},
    "golden": {"audio": "golden.wav", "text": "打开客厅的灯", "max_cer": 0.1},
}
FOLDER = Path("/nowhere/paraformer-zh")


def parse(tree: Any) -> Manifest:
    return parse_manifest(yaml.safe_dump(tree, allow_unicode=True).encode(), FOLDER)


def changed(path: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(FULL)
    *above, last = path.split(".")
    node: Any = tree
    for key in above:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is KeyError:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return tree


def test_every_key_of_the_contract_is_read() -> None:
    manifest = parse(FULL)
    assert manifest.id == "paraformer-zh"
    assert (manifest.family, manifest.task) == ("paraformer", "asr_offline")
    assert manifest.languages == ("zh", "en")
    assert manifest.source == {"name": "own training", "revision": "3"}
    assert manifest.files["model.onnx"].sha256 == SHA
    assert [v.provider for v in manifest.variants] == ["cpu", "cuda"]
    assert manifest.requires.memory_mb == 400
    assert manifest.golden is not None
    assert (manifest.golden.text, manifest.golden.max_cer) == ("打开客厅的灯", 0.1)
    assert len(manifest.sha256) == 64
    assert manifest.sha256.startswith(manifest.sha8)


def test_golden_of_a_vad_holds_segments() -> None:
    golden = {"audio": "golden.wav", "segments": [[10, 900], [1200, 1800]], "tolerance_ms": 20}
    manifest = parse(changed("golden", golden))
    assert manifest.golden is not None
    assert manifest.golden.segments == ((10, 900), (1200, 1800))
    assert manifest.golden.tolerance_ms == 20


def test_golden_of_a_punctuation_model_is_a_text() -> None:
    golden = {"input": "你好世界", "text": "你好，世界。"}
    manifest = parse({**changed("golden", golden), "task": "punctuation"})
    assert manifest.golden == GoldenClip("", "你好，世界。", "你好世界")


def test_golden_of_a_punctuation_model_needs_its_input() -> None:
    for golden, wrong in ((3, "is 3"), (None, "is missing"), ("", "is ''")):
        tree = {**changed("golden", {"input": golden, "text": "好。"}), "task": "punctuation"}
        with pytest.raises(ManifestError, match=rf"golden\.input: {wrong}"):
            parse(tree)


def test_optional_parts_may_be_left_out() -> None:
    tree = copy.deepcopy(FULL)
    for key in ("languages", "source", "requires", "golden"):
        del tree[key]
    assert parse(tree).golden is None


def test_unknown_keys_of_a_later_release_are_left_alone() -> None:
    assert parse({**FULL, "colour": "blue"}).id == "paraformer-zh"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schema", 2, "schema is 2, this agent reads schema 1"),
        ("schema", True, "schema is True"),
        ("schema", KeyError, "schema is None"),
        ("id", "Bad_Id", "id: is 'Bad_Id'"),
        ("id", "../x", "id: is '../x'"),
        ("id", 7, "id: is 7, must be text"),
        ("id", "a" * 200, "id: is"),
        ("family", KeyError, "family: is missing"),
        ("task", "asr", "task: is 'asr', must be one of vad, asr_online"),
        ("license", KeyError, "license: is missing"),
        ("sample_rate", KeyError, "sample_rate: is missing"),
        ("sample_rate", "16k", "sample_rate: is '16k'"),
        ("sample_rate", 0, "sample_rate: is 0"),
        ("languages", [False], "languages: is [False]"),
        ("files", KeyError, "files: is missing"),
        ("files", {}, "files: lists nothing"),
        ("files", ["model.onnx"], "files: is ['model.onnx'], must be a mapping"),
        ("files", {1: {}}, "files.1: the file name is not text"),
        ("files", {"model.onnx": 3}, "files.model.onnx: is 3"),
        ("files", {"model.onnx": {"sha256": SHA}}, "files.model.onnx.size: is missing"),
        ("files", {"model.onnx": {"size": -1, "sha256": SHA}}, "files.model.onnx.size: is -1"),
        ("files", {"model.onnx": {"size": True, "sha256": SHA}}, "files.model.onnx.size: is True"),
        ("files", {"model.onnx": {"size": 1}}, "files.model.onnx.sha256: is missing"),
        ("files", {"model.onnx": {"size": 1, "sha256": "12"}}, "must be 64 hex digits"),
        ("files", {"model.onnx": {"size": 1, "sha256": SHA[:-1] + "g"}}, "must be 64 hex digits"),
        ("files", {"model.onnx": {"size": 1, "sha256": 5}}, "sha256: is 5"),
        ("variants", KeyError, "variants: is missing"),
        ("variants", [], "variants: is [], must be a list"),
        ("variants", [3], "variants.0: is 3"),
        ("variants.0.graphs", {"model": "other.onnx"}, "'other.onnx' is not under files"),
        ("variants.0.graphs", {"model": 3}, "variants.0.graphs.model: 3 is not under files"),
        ("variants.0.graphs", {"decoder": "model.onnx"}, "the graph `model` is missing"),
        ("variants.0.graphs", KeyError, "variants.0.graphs: is missing"),
        ("variants.0.name", KeyError, "variants.0.name: is missing"),
        ("variants.1.name", "int8", "variants.1.name: 'int8' is used twice"),
        ("variants.0.provider", "tpu", "variants.0.provider: is 'tpu', must be cpu or cuda"),
        ("requires.onnxruntime", 1.17, "requires.onnxruntime: is 1.17"),
        ("requires.memory_mb", "lots", "requires.memory_mb: is 'lots'"),
        ("golden", "golden.wav", "golden: is 'golden.wav', must be a mapping"),
        ("golden.audio", "other.wav", "golden.audio: 'other.wav' is not under files"),
        ("golden.text", 5, "golden.text: is 5"),
        ("golden.max_cer", -1, "golden.max_cer: is -1"),
        ("golden.max_cer", float("nan"), "golden.max_cer: is nan"),
        ("golden.segments", [[1, 2, 3]], "golden.segments: is [[1, 2, 3]]"),
        ("golden.tolerance_ms", -5, "golden.tolerance_ms: is -5"),
    ],
)
def test_each_problem_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(changed(path, value))
    assert words in caught.value.message
    assert caught.value.message.startswith("paraformer-zh/manifest.yaml: ")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.onnx",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        "",
        "C:\\x",
        "c:x",
        "~/x",
        "a\nb",
        "a\0b",
        "manifest.yaml",
        "..",
    ],
)
def test_file_names_that_leave_the_folder_are_refused(name: str) -> None:
    tree = changed("files", {name: {"size": 1, "sha256": SHA}})
    with pytest.raises(ManifestError, match="the file name"):
        parse(tree)


def test_files_in_subfolders_are_accepted() -> None:
    tree = copy.deepcopy(FULL)
    tree["files"]["vocabulary/tokens.json"] = {"size": 1, "sha256": SHA}
    assert "vocabulary/tokens.json" in parse(tree).files


def test_links_are_refused_while_parsing(tmp_path: Path) -> None:
    folder = tmp_path / "paraformer-zh"
    folder.mkdir()
    (folder / "model.onnx").symlink_to("/etc/hostname")
    with pytest.raises(ManifestError, match=r"files\.model\.onnx: is a symbolic link"):
        parse_manifest(yaml.safe_dump(FULL).encode(), folder)


def test_all_problems_come_at_once() -> None:
    tree = changed("task", "hearing")
    tree["files"]["../x"] = {"size": 1, "sha256": SHA}
    del tree["license"]
    with pytest.raises(ManifestError) as caught:
        parse(tree)
    assert "task: is 'hearing'" in caught.value.message
    assert "files.../x: the file name" in caught.value.message
    assert "license: is missing" in caught.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: [", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"schema: 1\nid: a\nid: b\n", "key 'id' appears twice (line 3)"),
        (b"a: 2001-99-99", "is not valid YAML"),
        (b"[" * 100_000, "is not valid YAML"),
        (b"!!python/object/apply:os.system [ls]", "is not valid YAML"),
        (b"- 1", "must be a mapping"),
        (b"", "must be a mapping"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "is larger than"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, FOLDER)
    assert words in caught.value.message


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone/manifest\.yaml: can't be read"):
        read_manifest(tmp_path / "gone")


words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(FULL)), values))
def test_any_tree_parses_or_is_refused(odd: dict[str, Any]) -> None:
    try:
        parse({**FULL, **odd})
    except ManifestError as error:
        assert error.message  # noqa: PT017 - both outcomes are right, a crash is not
