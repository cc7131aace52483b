"""The published FSMN-VAD finds the published segments."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from tests.unit.engine.graphs import SHARED, Files

MODEL = SHARED / "models" / "fsmn-vad"
SAMPLES = SHARED / "audio" / "samples"
INT8_TOLERANCE_MS = 20
SHORT = 16000 * 12

pytestmark = pytest.mark.skipif(
    not MODEL.is_dir(), reason="the published FSMN-VAD is not on this machine (../shared)"
)


def load(graph: str, config: str = "config.yaml"):
    side = {
        "config.yaml": (MODEL / config).read_bytes(),
        "am.mvn": (MODEL / "am.mvn").read_bytes(),
    }
    files = Files(side, {"model": (MODEL / graph).read_bytes()})
    return load_model("fsmn_vad", files, EngineSettings())


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
def fp32():
    return load("model.onnx")


@pytest.mark.parametrize("config", ["config.yaml", "config.old-layout.yaml"])
def test_fp32_whole_equals_published_segments(config, audio, published):
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


def test_int8_stays_close_to_published_segments(audio, published):
    found = segments(load("model_quant.onnx"), audio)
    assert len(found) == len(published)
    assert np.abs(np.array(found) - np.array(published)).max() <= INT8_TOLERANCE_MS


def test_digital_silence_has_no_segment(fp32):
    assert segments(fp32, np.zeros(SHORT, np.int16)) == []


def test_no_audio_has_no_segment(fp32):
    assert segments(fp32, np.zeros(0, np.int16)) == []
