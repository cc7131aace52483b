"""A folder of FunASR's exporter becomes a model of the store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agent.engine.base import EngineSettings
from agent.errors import CompatibilityError, ManifestError
from agent.store.adopt import adopt
from agent.store.known import KnownFile, KnownHash, is_pinned, known_models
from agent.store.manifest import parse_manifest
from agent.store.verify import read_verified

SHARED = Path(__file__).resolve().parents[4] / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "models" / "fsmn-vad").is_dir(), reason="no published files here (../shared)"
)

FAMILIES = (
    "fsmn_vad",
    "paraformer",
    "paraformer_online",
    "sensevoice",
    "ct_punctuation",
    "ct_punctuation_realtime",
)
NEW = {
    "model": "Paraformer",
    "model_conf": {"predictor_bias": 1},
    "encoder": "SANMEncoder",
    "frontend_conf": {"fs": 16000},
}
OLD = {
    "model": "paraformer",
    "encoder": "sanm",
    "token_list": ["<blank>", "no", "1", "是", "<unk>"],
}
TOKENS = b'["<blank>", "a"]'


@pytest.fixture
def export(tmp_path):
    """Lays out a folder as the exporter does; the graphs are only bytes."""

    def make(config=NEW, *graphs, name="speech_model-ONNX", without=(), **files):
        folder = tmp_path / name
        folder.mkdir()
        content = {
            "config.yaml": config if isinstance(config, bytes) else yaml.safe_dump(config).encode(),
            "am.mvn": b"<Nnet>",
            "tokens.json": TOKENS,
            **{graph: graph.encode() for graph in graphs or ("model_quant.onnx",)},
            **{file.replace("__", "."): data for file, data in files.items()},
        }
        for file, data in content.items():
            if file not in without:
                (folder / file).write_bytes(data)
        return folder

    return make


def adopted(folder, **more):
    """The model and its parsed manifest; all families that there will be."""
    model = adopt(folder, **{"families": FAMILIES, **more})
    return model, parse_manifest(model.manifest, folder)


def variants(manifest):
    return [(v.name, v.provider, dict(v.graphs)) for v in manifest.variants]


def test_the_manifest_lists_the_files_of_the_model_and_no_other(export):
    folder = export(
        NEW, "model_quant.onnx", seg_dict=b"dict", README__md=b"card", configuration__json=b"{}",
        a__bpe__model=b"pieces", model__pt=b"weights", notes__txt=b"", offline__onnx=b"whole",
    )  # fmt: skip
    (folder / "example").mkdir()
    model, manifest = adopted(folder)
    assert list(manifest.files) == [
        "model_quant.onnx", "config.yaml", "am.mvn", "tokens.json", "seg_dict", "a.bpe.model",
        "configuration.json", "README.md",
    ]  # fmt: skip
    assert manifest.files == model.files
    listed = manifest.files["model_quant.onnx"]
    assert listed.size == len("model_quant.onnx")
    assert listed.sha256 == hashlib.sha256(b"model_quant.onnx").hexdigest()
    assert model.extra == {}


def test_the_manifest_is_written_in_the_order_of_the_format(export):
    tree = yaml.safe_load(adopt(export(), families=FAMILIES).manifest)
    assert list(tree) == [
        "schema", "id", "family", "task", "languages", "license", "source", "sample_rate", "files",
        "variants", "requires",
    ]  # fmt: skip
    assert tree["license"] == "as published"
    assert tree["source"] == {"name": "speech_model-ONNX", "revision": "unknown"}
    assert tree["requires"] == {"onnxruntime": ">=1.17", "memory_mb": 110}


def test_the_files_are_as_the_manifest_says_when_they_are_verified(export):
    folder = export()
    _, manifest = adopted(folder)
    with read_verified(manifest, folder) as files:
        assert files.read("tokens.json") == TOKENS


INT8, FP32, FP16 = "model_quant.onnx", "model.onnx", "model_fp16.onnx"


def test_int8_serves_the_cpu_and_fp32_cuda_as_well(export):
    _, manifest = adopted(export(NEW, INT8, FP32, FP16))
    assert variants(manifest) == [
        ("int8", "cpu", {"model": INT8}),
        ("fp32", "cpu", {"model": FP32}),
        ("fp32-cuda", "cuda", {"model": FP32}),
        ("fp16", "cuda", {"model": FP16}),
    ]


def test_a_vad_prefers_fp32_and_never_leaves_the_cpu(export):
    _, manifest = adopted(export({"model": "FsmnVADStreaming"}, INT8, FP32, FP16))
    assert variants(manifest) == [
        ("fp32", "cpu", {"model": FP32}),
        ("int8", "cpu", {"model": INT8}),
    ]
    assert list(manifest.files) == [FP32, INT8, "config.yaml", "am.mvn"]


def test_a_streaming_model_takes_complete_pairs_only(export):
    folder = export({"model": "ParaformerStreaming"}, INT8, "decoder_quant.onnx", FP32)
    _, manifest = adopted(folder)
    assert variants(manifest) == [("int8", "cpu", {"model": INT8, "decoder": "decoder_quant.onnx"})]
    assert FP32 not in manifest.files


def test_a_streaming_model_without_a_decoder_says_which_is_missing(export):
    folder = export({"model": "ParaformerStreaming"}, INT8, "decoder.onnx")
    with pytest.raises(CompatibilityError, match=r"decoder_quant.onnx is missing beside"):
        adopted(folder)


def test_a_hotword_model_has_its_encoder_in_fp32_where_int8_has_none(export):
    _, manifest = adopted(export({"model": "ContextualParaformer"}, INT8, "model_eb.onnx"))
    assert variants(manifest) == [("int8", "cpu", {"model": INT8, "model_eb": "model_eb.onnx"})]


def test_a_hotword_model_without_its_encoder_is_refused(export):
    with pytest.raises(CompatibilityError, match=r"model_eb_quant.onnx is missing beside"):
        adopted(export({"model": "SeacoParaformer"}))


def test_a_hotword_encoder_is_taken_whatever_the_config_calls_the_model(export):
    _, manifest = adopted(export({"model": "Paraformer"}, INT8, "model_eb_quant.onnx"))
    assert manifest.variants[0].graphs["model_eb"] == "model_eb_quant.onnx"


def test_tokens_of_an_older_config_become_a_file_of_their_own(export):
    folder = export(OLD, without=("tokens.json",))
    model, manifest = adopted(folder)
    assert json.loads(model.extra["tokens.json"]) == OLD["token_list"]
    listed = manifest.files["tokens.json"]
    assert listed.sha256 == hashlib.sha256(model.extra["tokens.json"]).hexdigest()
    assert not (folder / "tokens.json").exists()


def test_a_folder_without_any_tokens_is_refused(export):
    with pytest.raises(ManifestError, match=r"tokens.json: is missing, and config.yaml has no"):
        adopted(export(without=("tokens.json",)))


def test_a_folder_without_cmvn_is_refused(export):
    with pytest.raises(ManifestError, match=r"am.mvn: is missing"):
        adopted(export(without=("am.mvn",)))


def test_punctuation_needs_no_cmvn(export):
    _, manifest = adopted(export({"model": "CTTransformer"}, without=("am.mvn",)))
    assert list(manifest.files) == [INT8, "config.yaml", "tokens.json"]


def test_punctuation_that_splits_by_jieba_is_refused(export):
    folder = export({"model": "CTTransformer"})
    (folder / "jieba_usr_dict").write_text("阿里巴巴 3 n", encoding="utf-8")
    with pytest.raises(CompatibilityError, match="jieba dictionary"):
        adopted(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("speech_fsmn_vad_zh-cn-16k-common-onnx", "speech_fsmn_vad_zh-cn-16k-common-onnx"),
        ("Mein Modell (1)", "mein-modell-1-"),
        ("_.x", "x"),
        ("模型", "model"),
        ("x" * 200, "x" * 128),
    ],
)
def test_the_id_is_made_of_the_folders_name(export, name, expected):
    assert adopted(export(name=name))[0].id == expected


def test_a_folder_given_as_dot_has_a_name_too(export, monkeypatch):
    monkeypatch.chdir(export(name="my-model"))
    assert adopted(Path("."))[0].id == "my-model"


def test_the_id_can_be_given(export):
    assert adopted(export(), model_id="mine")[1].id == "mine"


def test_an_id_that_is_no_id_is_refused(export):
    with pytest.raises(ManifestError, match="not a model id"):
        adopted(export(), model_id="../Mine")


def test_the_repository_is_named_where_configuration_json_names_it(export):
    card = json.dumps({"model_name_in_hub": {"ms": "some/model", "hf": ""}}).encode()
    _, manifest = adopted(export(configuration__json=card))
    assert manifest.source == {"name": "some/model", "revision": "unknown"}


@pytest.mark.parametrize("card", [b"{", b"[]", b'{"model_name_in_hub": {"ms": 7}}', b"[" * 99999])
def test_an_unfit_configuration_json_is_no_obstacle(export, card):
    _, manifest = adopted(export(configuration__json=card, name="folder"))
    assert manifest.source["name"] == "folder"


def test_hashing_tells_how_far_it_is(export):
    steps = []
    model, _ = adopted(export(model__onnx=bytes(3 << 20)), progress=steps.append)
    assert sum(steps) == sum(file.size for file in model.files.values())
    assert max(steps) == 1 << 20


VAD_CONFIG = yaml.safe_dump({"model": "FsmnVADStreaming"}).encode()
PUBLISHED = {
    "some-vad": replace(
        known_models()["fsmn-vad"],
        id="some-vad",
        files={
            name: KnownFile((KnownHash(hashlib.sha256(data).hexdigest(), revision="r1"),))
            for name, data in {
                "model_quant.onnx": INT8.encode(),
                "config.yaml": VAD_CONFIG,
                "am.mvn": b"<Nnet>",
            }.items()
        },
    )
}


def test_a_published_model_gets_its_own_id_and_is_pinned(export):
    _, manifest = adopted(export(VAD_CONFIG), model_id="mine", published=PUBLISHED)
    assert manifest.id == "some-vad"
    assert is_pinned(manifest, PUBLISHED)
    assert manifest.license == "FunASR Model License"
    assert manifest.languages == ("zh", "en")
    assert manifest.source == {**PUBLISHED["some-vad"].source, "revision": "r1"}
    assert manifest.requires == PUBLISHED["some-vad"].requires


@pytest.mark.parametrize("name", ["model_quant.onnx", "config.yaml", "am.mvn"])
def test_a_changed_file_of_a_published_model_makes_it_unpinned(export, name):
    folder = export(VAD_CONFIG)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    _, manifest = adopted(folder, model_id="mine", published=PUBLISHED)
    assert manifest.id == "mine"
    assert not is_pinned(manifest, PUBLISHED)


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"nowhere: is not a folder"):
        adopt(tmp_path / "nowhere")


def test_the_families_are_those_of_the_agent(export):
    _, manifest = adopted(export({"model": "Paraformer"}), families=None)
    assert manifest.family == "paraformer"
    with pytest.raises(
        CompatibilityError, match=r"it has .*fsmn_vad, paraformer, paraformer_online"
    ):
        adopted(export({"model": "Whisper"}, name="other"), families=None)


def test_a_folder_that_was_not_exported_says_how(export):
    with pytest.raises(CompatibilityError, match="export it first"):
        adopted(export(NEW, "model.pt"))


def test_a_whole_file_export_alone_is_no_graph(export):
    with pytest.raises(CompatibilityError, match="no graph that can be used"):
        adopted(export({"model": "FsmnVADStreaming"}, "offline.onnx"))


@pytest.mark.parametrize("name", ["model_quant.onnx", "config.yaml", "am.mvn", "README.md"])
def test_a_link_is_refused(export, tmp_path, name):
    folder = export(README__md=b"card")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match=rf"{name}: is a symbolic link"):
        adopted(folder)


def test_what_is_no_regular_file_is_refused(export):
    folder = export(without=("am.mvn",))
    os.mkfifo(folder / "am.mvn")
    with pytest.raises(ManifestError, match=r"am.mvn: is not a regular file"):
        adopted(folder)


def test_adopting_loads_no_runtime(export):
    code = (
        "import sys; from pathlib import Path; from agent.store.adopt import adopt; "
        "adopt(Path(sys.argv[1])); print({'onnxruntime', 'onnx'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(export())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@needs_shared
def test_the_published_vad_folder_is_adopted_and_loads():
    from agent.engine.families import load_model

    folder = SHARED / "models" / "fsmn-vad"
    model, manifest = adopted(folder, families=None)
    assert (model.id, manifest.family) == ("fsmn-vad", "fsmn_vad")
    assert list(model.files) == ["model.onnx", "model_quant.onnx", "config.yaml", "am.mvn"]
    assert [v.name for v in manifest.variants] == ["fp32", "int8"]
    assert not is_pinned(manifest)
    with read_verified(manifest, folder) as files:
        assert (
            load_model("fsmn_vad", files, EngineSettings()).parameters.max_end_silence_time == 800
        )


@needs_shared
def test_the_older_layout_of_the_vad_is_the_same_model(tmp_path):
    folder = tmp_path / "vad"
    folder.mkdir()
    source = SHARED / "models" / "fsmn-vad"
    shutil.copyfile(source / "config.old-layout.yaml", folder / "config.yaml")
    for name in ("am.mvn", "model.onnx"):
        shutil.copyfile(source / name, folder / name)
    _, manifest = adopted(folder)
    assert (manifest.family, manifest.sample_rate) == ("fsmn_vad", 16000)


@needs_shared
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("paraformer-large-offline", "paraformer"),
        ("paraformer-large-online", "paraformer_online"),
        ("SenseVoiceSmall", "sensevoice"),
        ("ct-punc", "ct_punctuation"),
    ],
)
def test_real_configs_are_read(tmp_path, name, family):
    folder = tmp_path / name
    shutil.copytree(SHARED / "configs" / name, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    for graph in ("model_quant.onnx", "decoder_quant.onnx"):
        (folder / graph).write_bytes(b"graph")
    _, manifest = adopted(folder)
    assert manifest.family == family


@needs_shared
@pytest.mark.parametrize("name", ["paraformer-large-offline", "paraformer-large-online", "ct-punc"])
def test_tokens_made_from_an_older_config_equal_the_published_ones(tmp_path, name):
    """Byte for byte, so that such a folder can still be pinned."""
    source = SHARED / "configs" / name
    folder = tmp_path / name
    folder.mkdir()
    for file in source.iterdir():
        if file.name != "tokens.json":
            shutil.copyfile(file, folder / file.name)
    for graph in ("model_quant.onnx", "decoder_quant.onnx"):
        (folder / graph).write_bytes(b"graph")
    assert adopted(folder)[0].extra["tokens.json"] == (source / "tokens.json").read_bytes()


@needs_shared
@pytest.mark.parametrize("name", ["lab-tiny-offline", "lab-tiny-online"])
def test_configs_that_name_no_model_are_known_by_their_sections(name):
    _, manifest = adopted(SHARED / "models" / name)
    assert manifest.task == ("asr_online" if name.endswith("online") else "asr_offline")
