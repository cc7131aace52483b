"""What every family of offline recognisers keeps to; a family is tested by being in the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from agent.engine.base import EngineSettings
from agent.engine.families import families, load_model
from agent.errors import CompatibilityError, InferenceError, ManifestError
from agent.types import StreamOptions
from tests.unit.engine.graphs import Files
from tests.unit.engine.offline_graphs import (
    hotword_graph,
    paraformer_files,
    paraformer_graph,
    sensevoice_files,
    sensevoice_graph,
)

PEAKS = [0.0, 0.5, 1.0, 0.2, 0.9, 1.0, 0.5, 0.7, 1.0, 0.1, 0.2, 0.3]


@dataclass(frozen=True)
class Sample:
    """A model of a family that reads something in any audio."""

    family: str
    make: Callable[..., Files]
    """Takes `nan=True`."""


SAMPLES = {
    "paraformer": Sample("paraformer", lambda **k: paraformer_files(paraformer_graph(**k))),
    "paraformer with times": Sample(
        "paraformer", lambda **k: paraformer_files(paraformer_graph(peaks=PEAKS, count=3, **k))
    ),
    "paraformer with hotwords": Sample(
        "paraformer",
        lambda **k: paraformer_files(paraformer_graph(biased=True, **k), model_eb=hotword_graph()),
    ),
    "sensevoice": Sample("sensevoice", lambda **k: sensevoice_files(sensevoice_graph(**k))),
}
OFFLINE = sorted(name for name, family in families().items() if family.task == "asr_offline")


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def sample(request):
    return request.param


def noise(ms, seed=0):
    return np.random.default_rng(seed).integers(-3000, 3000, 16 * ms).astype(np.int16)


def load(sample, files=None):
    return load_model(sample.family, files or sample.make(), EngineSettings())


def changed(files, change):
    """The same files with `change` made to the graph."""
    model = onnx.load_model_from_string(files.graph("model"))
    change(model.graph)
    files._graphs["model"] = model.SerializeToString()
    return files


@pytest.mark.parametrize("family", OFFLINE)
def test_every_offline_family_has_a_sample_here(family):
    assert any(sample.family == family for sample in SAMPLES.values())


def test_speech_is_read(sample):
    read = load(sample).decode([noise(1000)], StreamOptions())[0]
    assert read.text
    assert read.tokens
    assert len(read.timestamps) in (0, len(read.tokens))
    assert all(0 <= start <= end <= 1000 for start, end in read.timestamps)


@pytest.mark.parametrize("samples", [0, 1, 160, 399])
def test_audio_shorter_than_one_frame_is_an_empty_text(sample, samples):
    read = load(sample).decode([np.zeros(samples, np.int16)], StreamOptions())[0]
    assert (read.text, read.tokens, read.timestamps) == ("", (), ())


def test_one_frame_of_audio_is_decoded(sample):
    read = load(sample).decode([np.zeros(400, np.int16)], StreamOptions())[0]
    assert len(read.timestamps) in (0, len(read.tokens))
    assert all(0 <= start <= end <= 25 for start, end in read.timestamps)


def test_a_batch_is_read_in_order_and_as_one_by_one(sample):
    model, batch = load(sample), [noise(1000), noise(10), noise(60), np.zeros(0, np.int16)]
    together = model.decode(batch, StreamOptions())
    assert together == [model.decode([item], StreamOptions())[0] for item in batch]
    assert together[0].text != together[1].text == together[3].text == ""
    assert model.decode([], StreamOptions()) == []


def test_decoding_again_gives_the_same(sample):
    model = load(sample)
    first = model.decode([noise(500)], StreamOptions())
    model.decode([noise(900, seed=1)], StreamOptions(hotwords=(("你", 20),), language="en"))
    assert model.decode([noise(500)], StreamOptions()) == first


def test_nan_is_told(sample):
    with pytest.raises(InferenceError, match="not a number"):
        load(sample, sample.make(nan=True)).decode([noise(500)], StreamOptions())


def test_an_input_of_another_name_is_refused_by_name(sample):
    def rename(graph):
        graph.input[0].name = "sound"
        for node in graph.node:
            node.input[:] = ["sound" if name == "speech" else name for name in node.input]

    with pytest.raises(CompatibilityError, match=r"no input speech; it has sound"):
        load(sample, changed(sample.make(), rename))


def test_an_input_that_the_family_does_not_know_is_refused_by_name(sample):
    def add(graph):
        graph.input.append(onnx.helper.make_tensor_value_info("pitch", 1, ["B"]))

    with pytest.raises(CompatibilityError, match="does not know: pitch"):
        load(sample, changed(sample.make(), add))


def test_an_input_of_another_type_is_refused_by_name(sample):
    def retype(graph):
        graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
        graph.node.insert(0, onnx.helper.make_node("Cast", ["speech_lengths"], ["narrow"], to=6))
        for node in list(graph.node)[1:]:
            node.input[:] = ["narrow" if n == "speech_lengths" else n for n in node.input]

    with pytest.raises(CompatibilityError, match="input speech_lengths is tensor"):
        load(sample, changed(sample.make(), retype))


def test_a_vocabulary_of_another_size_is_refused(sample):
    files = sample.make()
    files._side["tokens.json"] = b'["<blank>", "a"]'
    with pytest.raises(CompatibilityError, match=r"tokens\.json: has 2 tokens"):
        load(sample, files)


@pytest.mark.parametrize("tokens", [b"{", b"{}", b"[1, 2]", b"\xff"])
def test_a_malformed_vocabulary_is_refused(sample, tokens):
    files = sample.make()
    files._side["tokens.json"] = tokens
    with pytest.raises(ManifestError, match=r"tokens\.json"):
        load(sample, files)


def test_a_model_that_can_not_bias_says_so(sample):
    model = load(sample)
    remarks = model.remarks(StreamOptions(hotwords=(("你好", 20),)))
    assert model.remarks(StreamOptions()) == ()
    if model.can_bias:
        assert remarks == ()
    else:
        assert remarks == ("hotwords are ignored: test-model has no input for them",)
