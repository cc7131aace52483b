from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import helper

from agent.engine import ort
from agent.engine.base import EngineSettings
from agent.engine.biasing import KEPT_LISTS
from agent.engine.families import families, load_model
from agent.errors import CompatibilityError, InferenceError, ManifestError
from agent.types import StreamOptions
from tests.unit.engine.offline_graphs import (
    DIM,
    FLOAT,
    INT32,
    WORDS,
    graph,
    hotword_graph,
    paraformer_files,
    paraformer_graph,
)

HEL, LO, NI, HAO, U, S, UNK, EOS = 3, 4, 5, 6, 7, 8, 9, 2
SECOND = np.zeros(16000, np.int16)


def load(data, **more):
    return load_model("paraformer", paraformer_files(data, **more), EngineSettings())


def read(data, **more):
    return load(data, **more).decode([SECOND], StreamOptions())[0]


def fired(*frames, length=60):
    values = np.full(length, 0.3, np.float32)
    values[list(frames)] = 1.0
    return values.tolist()


def hotwords(*phrases):
    return StreamOptions(hotwords=tuple((phrase, 20) for phrase in phrases))


def test_the_end_of_sentence_is_not_counted_as_text():
    assert read(paraformer_graph([NI, HAO, S, EOS], count=3)).text == "你好"


def test_pieces_words_and_abbreviations_become_text():
    found = read(paraformer_graph([HEL, LO, NI, U, S, EOS], count=6))
    assert (found.text, found.tokens) == ("hello你US", ("hel@@", "lo", "你", "u", "s"))


@pytest.mark.parametrize("count", [0, 1])
def test_a_count_of_nothing_is_an_empty_text(count):
    assert read(paraformer_graph([NI, EOS], count=count)).text == ""


def test_without_peaks_there_are_no_times():
    assert read(paraformer_graph([NI, HAO, EOS], count=3)).timestamps == ()


def test_peaks_become_times():
    data = paraformer_graph([NI, HAO, EOS], count=3, peaks=fired(10, 20, 45, length=51))
    assert read(data).timestamps == ((170, 370), (370, 945))


def test_times_end_with_the_audio():
    data = paraformer_graph([NI, EOS], count=2, peaks=fired(10, 49, length=51))
    assert read(data).timestamps == ((170, 1000),)


@pytest.mark.parametrize("frames", [(10, 20), (10, 20, 30, 40), ()])
def test_peaks_that_do_not_match_leave_text_only(frames):
    found = read(paraformer_graph([NI, HAO, EOS], count=3, peaks=fired(*frames)))
    assert (found.text, found.timestamps) == ("你好", ())


def test_a_token_keeps_its_own_time_when_one_before_it_is_dropped():
    peaks = fired(5, 10, 15, 20, 45)
    found = read(paraformer_graph([NI, 0, UNK, HAO, EOS], count=5, peaks=peaks))
    assert (found.text, found.timestamps) == ("你好", ((70, 170), (370, 1000)))


def test_times_fit_the_tokens_with_pieces():
    found = read(paraformer_graph([HEL, LO, EOS], count=3, peaks=fired(5, 10, 47)))
    assert found.timestamps == ((70, 170), (170, 1000))


def by_convolution():
    """What a decoder begins with."""
    nodes = [
        helper.make_node("Transpose", ["fired"], ["by_channel"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["by_channel", "kernel"], ["convolved"]),
        helper.make_node("Transpose", ["convolved"], ["logits"], perm=[0, 2, 1]),
    ]
    return nodes, {"kernel": np.ones((len(WORDS), DIM, 1), np.float32)}


def by_reshape():
    """What the loop of CIF ends with, where a graph has times."""
    nodes = [
        helper.make_node("Squeeze", ["fired", "first"], ["frames"]),
        helper.make_node("Reshape", ["frames", "shape"], ["logits"]),
    ]
    return nodes, {"first": np.array([0]), "shape": np.array([1, 1, len(WORDS)])}


@pytest.mark.parametrize("rest", [by_convolution, by_reshape])
def test_audio_in_which_no_token_fires_is_an_empty_text(rest):
    nodes, constants = rest()
    data = graph(
        [
            helper.make_node("Sub", ["speech_lengths", "speech_lengths"], ["token_num"]),
            helper.make_node("Slice", ["speech", "token_num", "token_num", "axis"], ["fired"]),
            *nodes,
        ],
        [("speech", FLOAT, ["B", "T", DIM]), ("speech_lengths", INT32, ["B"])],
        [("logits", FLOAT, ["B", "L", len(WORDS)]), ("token_num", INT32, ["B"])],
        {"axis": np.array([1], np.int32), **constants},
    )
    model = load(data)
    with pytest.raises(InferenceError, match=r"shape: ?\{0"):
        model._graph.run(
            {"speech": np.zeros((1, 5, DIM), np.float32), "speech_lengths": ort.int32(5)}
        )
    assert model.decode([SECOND], StreamOptions())[0].text == ""


def test_another_failure_of_the_graph_is_told():
    nodes = [
        helper.make_node("Identity", ["speech_lengths"], ["token_num"]),
        helper.make_node("Reshape", ["speech", "shape"], ["logits"]),
    ]
    data = graph(
        nodes,
        [("speech", FLOAT, ["B", "T", DIM]), ("speech_lengths", INT32, ["B"])],
        [("logits", FLOAT, ["B", "L", len(WORDS)]), ("token_num", INT32, ["B"])],
        {"shape": np.array([1, 7, len(WORDS)])},
    )
    with pytest.raises(InferenceError, match="test-model/model"):
        read(data)


@pytest.mark.parametrize("bias", [b"-1", b"one", b"0.5", b"[1]"])
def test_a_predictor_bias_that_is_no_count_is_refused(bias):
    files = paraformer_files(paraformer_graph())
    files._side["config.yaml"] = b"model_conf: {predictor_bias: " + bias + b"}"
    with pytest.raises(ManifestError, match=r"config\.yaml: model_conf\.predictor_bias"):
        load_model("paraformer", files, EngineSettings())


def test_without_a_predictor_bias_every_position_is_text():
    files = paraformer_files(paraformer_graph([NI, HAO], count=2))
    files._side["config.yaml"] = b"model_conf: {}"
    model = load_model("paraformer", files, EngineSettings())
    assert model.decode([SECOND], StreamOptions())[0].text == "你好"


# Hotwords


@pytest.fixture
def biased():
    data = paraformer_graph([NI, HAO, EOS], count=3, biased=True)
    return load(data, model_eb=hotword_graph(), seg_dict=b"hello hel@@ lo\n")


def test_hotwords_reach_the_graph(biased):
    assert biased.can_bias
    assert biased.decode([SECOND], hotwords("u u"))[0].text == "UU"
    assert biased.decode([SECOND], hotwords("你"))[0].text == "你好"


def test_without_hotwords_only_the_blank_row_goes_in(biased):
    rows = biased._encoder.rows(())
    assert rows.shape == (1, len(WORDS))
    assert rows[0].argmax() == WORDS.index("<s>")
    assert biased.decode([SECOND], StreamOptions())[0].text == "你好"


def test_the_blank_row_is_the_last(biased):
    rows = biased._encoder.rows(("你好", "hello"))
    assert [np.flatnonzero(row).tolist() for row in rows] == [[NI, HAO], [HEL, LO], [1]]


@pytest.mark.parametrize("length", [1, 9, 10, 11, 40, 64])
def test_hotwords_of_any_length_are_embedded_to_their_end(biased, length):
    rows = biased._encoder.rows(("你" * length, "好"))
    assert rows[0].tolist() == [length if i == NI else 0 for i in range(len(WORDS))]
    assert rows[1][HAO] == 1


def test_hundreds_of_hotwords_keep_their_order(biased):
    phrases = tuple("你" * (1 + i % 17) + "好" * (i % 23) for i in range(700))
    rows = biased._encoder.rows(phrases)
    assert rows.shape == (701, len(WORDS))
    assert rows[:-1, NI].tolist() == [1 + i % 17 for i in range(700)]
    assert rows[:-1, HAO].tolist() == [i % 23 for i in range(700)]


def test_a_list_of_hotwords_is_embedded_once_and_few_lists_are_kept(biased):
    first = biased._encoder.rows(("你",))
    assert biased._encoder.rows(("你",)) is first
    for i in range(KEPT_LISTS):
        biased._encoder.rows(("好" * (i + 1),))
    assert biased._encoder.rows(("你",)) is not first


def test_what_is_left_out_is_said(biased):
    assert biased.remarks(hotwords("你q")) == (
        "hotword '你q': used without q, for which the model has no token",
    )


def test_weights_are_said_to_be_ignored_when_they_differ(biased):
    same, other = (("你", 20), ("好", 20)), (("你", 20), ("好", 50))
    assert biased.remarks(StreamOptions(hotwords=same)) == ()
    assert "weights of hotwords are ignored" in biased.remarks(StreamOptions(hotwords=other))[0]
    read_same, read_other = (
        biased.decode([SECOND], StreamOptions(hotwords=pairs))[0] for pairs in (same, other)
    )
    assert read_same == read_other


def test_a_graph_for_hotwords_needs_the_second_graph():
    files = paraformer_files(paraformer_graph(biased=True))
    with pytest.raises(KeyError, match="model_eb"):
        load_model("paraformer", files, EngineSettings())


def test_a_second_graph_of_another_width_is_refused():
    with pytest.raises(CompatibilityError, match="model_eb: the output hw_embed has the shape"):
        load(paraformer_graph(biased=True), model_eb=hotword_graph(size=4))


def test_a_second_graph_that_is_none_is_refused():
    with pytest.raises(CompatibilityError, match="model_eb: the graph has no input hotword"):
        load(paraformer_graph(biased=True), model_eb=paraformer_graph())


def test_a_model_without_hotwords_does_not_open_the_second_graph():
    assert not load(paraformer_graph(), model_eb=b"never read").can_bias


def test_nan_in_the_rows_is_told():
    data = paraformer_graph(biased=True)
    eb = hotword_graph()
    broken = eb.replace(np.float32(1).tobytes(), np.float32(np.nan).tobytes())
    with pytest.raises(InferenceError, match="hw_embed is not a number"):
        load(data, model_eb=broken).decode([SECOND], hotwords("你"))


def test_the_second_graph_is_optional_in_the_family():
    family = families()["paraformer"]
    assert (family.graphs, family.optional_graphs) == (("model",), ("model_eb",))


def test_hotwords_never_reach_the_log(biased, caplog):
    with caplog.at_level(logging.INFO):
        biased.decode([SECOND], hotwords("你好"))
    assert caplog.text == ""
