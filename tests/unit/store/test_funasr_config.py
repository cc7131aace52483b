"""What a config.yaml of either generation of FunASR says, and what it may not do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agent.errors import CompatibilityError, ManifestError
from agent.store.funasr_config import (
    MAX_CONFIG_BYTES,
    kind_of,
    read_export_config,
    sample_rate,
    token_list,
)

FAMILIES = (
    "fsmn_vad",
    "paraformer",
    "paraformer_online",
    "sensevoice",
    "ct_punctuation",
    "ct_punctuation_realtime",
)
READ = (
    "import sys; from pathlib import Path; "
    "from agent.store.funasr_config import read_export_config; "
    "read_export_config(Path(sys.argv[1]))"
)


@pytest.fixture
def read(tmp_path):
    """Reads a config.yaml with this content."""

    def reading(content):
        (tmp_path / "config.yaml").write_bytes(content)
        return read_export_config(tmp_path)

    return reading


OFFLINE_SECTIONS = {"predictor_conf": {"idim": "1"}, "decoder_conf": {"num_blocks": "1"}}
BY_CHUNKS = {"encoder_conf": {"input_layer": "pe_online"}}


@pytest.mark.parametrize(
    ("config", "family", "task"),
    [
        ({"model": "Paraformer"}, "paraformer", "asr_offline"),
        ({"model": "BiCifParaformer"}, "paraformer", "asr_offline"),
        ({"model": "ContextualParaformer"}, "paraformer", "asr_offline"),
        ({"model": "SeacoParaformer"}, "paraformer", "asr_offline"),
        ({"model": "ParaformerStreaming"}, "paraformer_online", "asr_online"),
        ({"model": "SenseVoiceSmall"}, "sensevoice", "asr_offline"),
        ({"model": "FsmnVADStreaming"}, "fsmn_vad", "vad"),
        ({"model": "CTTransformer"}, "ct_punctuation", "punctuation"),
        ({"model": "CTTransformerStreaming"}, "ct_punctuation_realtime", "punctuation"),
        ({"model": "paraformer", "encoder": "sanm"}, "paraformer", "asr_offline"),
        ({"model": "paraformer_online", "encoder": "sanm"}, "paraformer_online", "asr_online"),
        ({"model": "bicif_paraformer"}, "paraformer", "asr_offline"),
        ({"model": "neatcontextual_paraformer"}, "paraformer", "asr_offline"),
        ({"model": "paraformer", "encoder": "sanm_chunk_opt"}, "paraformer_online", "asr_online"),
        (
            {"model": "Paraformer", "encoder": "SANMEncoderChunkOpt"},
            "paraformer_online",
            "asr_online",
        ),
        ({"model": "e2evad", "encoder": "fsmn"}, "fsmn_vad", "vad"),
        ({"vadPostArgs": {"sample_rate": "16000"}, "FSMN": {"a": "1"}}, "fsmn_vad", "vad"),
        ({"punctuation": "target_delay"}, "ct_punctuation", "punctuation"),
        ({"punctuation": "vad_realtime"}, "ct_punctuation_realtime", "punctuation"),
        (OFFLINE_SECTIONS, "paraformer", "asr_offline"),
        ({**OFFLINE_SECTIONS, **BY_CHUNKS}, "paraformer_online", "asr_online"),
    ],
)
def test_the_family_is_found_in_both_generations(config, family, task):
    kind = kind_of(config, FAMILIES, "config.yaml")
    assert (kind.family, kind.task) == (family, task)


def test_a_config_that_does_not_say_what_it_is_is_refused():
    with pytest.raises(ManifestError, match=r"^here: does not say which model this is"):
        kind_of({"dataset": "AudioDataset"}, FAMILIES, "here")


@pytest.mark.parametrize("name", ["UniASR", "Emotion2vec", "x" * 9999])
def test_a_model_that_no_family_runs_is_refused_with_those_that_are_run(name):
    with pytest.raises(CompatibilityError) as caught:
        kind_of({"model": name}, FAMILIES, "config.yaml")
    assert name[:60] in caught.value.message
    assert caught.value.message.endswith("it has " + ", ".join(sorted(FAMILIES)))
    assert len(caught.value.message) < 300


def test_a_family_that_this_agent_has_not_is_named():
    with pytest.raises(CompatibilityError, match=r"no family sensevoice .*; it has fsmn_vad$"):
        kind_of({"model": "SenseVoiceSmall"}, ("fsmn_vad",), "config.yaml")


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        ({"frontend_conf": {"fs": "8000"}}, 8000),
        ({"WavFrontend": {"frontend_conf": {"fs": "8000"}}}, 8000),
        ({}, 16000),
    ],
)
def test_the_sample_rate_is_that_of_the_frontend(config, rate):
    assert sample_rate(config, "config.yaml") == rate


@pytest.mark.parametrize("fs", ["fast", "0", "-1", "1" * 99, ["16000"]])
def test_a_sample_rate_that_is_none_is_refused(fs):
    with pytest.raises(ManifestError, match="sample rate in Hz"):
        sample_rate({"frontend_conf": {"fs": fs}}, "config.yaml")


def test_unquoted_tokens_stay_what_they_are(read):
    config = read(b"token_list:\n- <blank>\n- no\n- 1\n- 1e3\n- ~\n- null\n")
    assert token_list(config) == ["<blank>", "no", "1", "1e3", "~", "null"]


@pytest.mark.parametrize("tokens", [b"token_list: all", b"token_list: [[a], b]", b"a: b"])
def test_what_is_no_list_of_tokens_counts_as_none(read, tokens):
    assert token_list(read(tokens)) == []


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"config.yaml: is missing; give the folder"):
        read_export_config(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"model: [",
        b"- Paraformer",
        b"",
        b"\xff\xfe\x00",
        b"model: \x01",
        b"[" * 500_000,
        b"- " * 500_000,
        b"a: *c",
    ],
)
def test_a_config_that_is_no_yaml_mapping_is_refused(read, content):
    with pytest.raises(ManifestError, match=r"config.yaml: is not"):
        read(content)


def test_a_hostile_config_does_not_kill_the_process(tmp_path):
    """Some versions of PyYAML's C loader die of this with a segmentation fault."""
    (tmp_path / "config.yaml").write_bytes(b"[" * 3_000_000)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "config.yaml: is not valid YAML: " in done.stderr


def test_a_config_beyond_the_bound_is_refused(read, tmp_path):
    (tmp_path / "config.yaml").touch()
    os.truncate(tmp_path / "config.yaml", MAX_CONFIG_BYTES + 1)
    with pytest.raises(ManifestError, match="is larger than"):
        read_export_config(tmp_path)
