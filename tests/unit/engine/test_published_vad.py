"""The published FSMN-VAD finds the published segments."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.engine.base import EngineSettings
from agent.store.library import Library
from agent.store.loader import load_role
from tests.unit.engine.graphs import SHARED

MODEL = SHARED / "models" / "fsmn-vad"
SAMPLES = SHARED / "audio" / "samples"
INT8_TOLERANCE_MS = 20
SHORT = 16000 * 12

pytestmark = pytest.mark.skipif(
    not MODEL.is_dir(), reason="the published FSMN-VAD is not on this machine (../shared)"
)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a graph of the published folder through a manifest, as the agent does."""

    def loaded(graph, config="config.yaml"):
        parent = tmp_path_factory.mktemp("models")
        folder = parent / "fsmn-vad"
        folder.mkdir()
        for source, name in ((graph, graph), (config, "config.yaml"), ("am.mvn", "am.mvn")):
            shutil.copyfile(MODEL / source, folder / name)
        (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest(folder, graph)))
        role = load_role("vad", ["fsmn-vad"], Library(parent / "none", parent), EngineSettings())
        assert (role.id, role.refusals) == ("fsmn-vad", ())
        return role.model

    return loaded


def manifest(folder, graph):
    files = {
        path.name: {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in folder.iterdir()
    }
    return {
        "schema": 1,
        "id": "fsmn-vad",
        "family": "fsmn_vad",
        "task": "vad",
        "languages": ["zh"],
        "license": "as published",
        "source": {"name": "iic/speech_fsmn_vad_zh-cn-16k-common", "revision": "unknown"},
        "sample_rate": 16000,
        "files": files,
        "variants": [{"name": "published", "provider": "cpu", "graphs": {"model": graph}}],
        "requires": {"onnxruntime": ">=1.17", "memory_mb": 50},
    }


def segments(model, audio, cuts=()):
    stream = model.start_stream()
    edges = [0, *sorted(cuts), len(audio)]
    found = [b for a, z in pairwise(edges) for b in stream.accept(audio[a:z])]
    found += stream.finish()
    assert [b.kind for b in found] == ["start", "end"] * (len(found) // 2)
    return [[a.ms, z.ms] for a, z in zip(found[::2], found[1::2], strict=True)]


@pytest.fixture(scope="module")
def audio():
    return soundfile.read(SAMPLES / "vad_example.wav", dtype="int16")[0]


@pytest.fixture(scope="module")
def published():
    return json.loads((SAMPLES / "vad_example.segments.json").read_text())


@pytest.fixture(scope="module")
def fp32(load):
    return load("model.onnx")


@pytest.mark.parametrize("config", ["config.yaml", "config.old-layout.yaml"])
def test_fp32_whole_equals_published_segments(load, config, audio, published):
    assert segments(load("model.onnx", config), audio) == published


def test_fp32_in_any_chunks_equals_published_segments(fp32, audio, published):
    cuts = np.random.default_rng(0).integers(0, len(audio), 200).tolist()
    assert segments(fp32, audio, cuts) == published


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, SHORT), max_size=12))
def test_cuts_never_change_the_segments(fp32, audio, cuts):
    assert segments(fp32, audio[:SHORT], cuts) == segments(fp32, audio[:SHORT])


def test_int8_stays_close_to_published_segments(load, audio, published):
    found = segments(load("model_quant.onnx"), audio)
    assert len(found) == len(published)
    assert np.abs(np.array(found) - np.array(published)).max() <= INT8_TOLERANCE_MS


def test_digital_silence_has_no_segment(fp32):
    assert segments(fp32, np.zeros(SHORT, np.int16)) == []


def test_no_audio_has_no_segment(fp32):
    assert segments(fp32, np.zeros(0, np.int16)) == []
