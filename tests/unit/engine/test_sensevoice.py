from __future__ import annotations

import numpy as np
import pytest

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.families.sensevoice import Tags, language_index, read_tags
from agent.types import StreamOptions
from tests.unit.engine.offline_graphs import PIECES, sensevoice_files, sensevoice_graph

SECOND = np.zeros(16000, np.int16)
HEL, LO, SPACE, NI, HAO, COMMA = (PIECES.index(p) for p in ("▁hel", "lo", "▁", "你", "好", ","))
BGM_TAG = PIECES.index("<|BGM|>")


def load(*path, **more):
    data = sensevoice_graph(path or (0, HEL, HEL, 0, LO), **more)
    return load_model("sensevoice", sensevoice_files(data), EngineSettings())


def read(*path, options=StreamOptions(), **more):  # noqa: B008
    return load(*path, **more).decode([SECOND], options)[0]


def test_pieces_become_text_and_times():
    found = read(0, HEL, HEL, 0, LO, LO, LO)
    assert (found.text, found.tokens) == ("hello", ("▁hel", "lo"))
    assert found.timestamps == ((30, 150), (210, 390))


def test_the_first_frame_begins_with_the_audio():
    assert read(HEL, LO).timestamps == ((0, 30), (30, 90))


def test_times_end_with_the_audio():
    path = [*[0] * 15, HEL]
    assert read(*path).timestamps == ((870, 930),)
    shorter = load(*path).decode([SECOND[: 925 * 16]], StreamOptions())[0]
    assert shorter.timestamps == ((870, 925),)


def test_a_blank_between_equal_pieces_keeps_both():
    assert read(LO, 0, LO, LO).tokens == ("lo", "lo")


def test_the_tags_are_told_beside_the_text():
    found = read(0, HEL)
    assert (found.language, found.emotion, found.event) == ("zh", "HAPPY", "Speech")
    assert found.text == "hel"


def test_unknown_emotion_and_event_are_empty():
    found = read(0, HEL, emotion="<|EMO_UNKNOWN|>", event="<|Event_UNK|>")
    assert (found.emotion, found.event) == ("", "")


def test_a_tag_inside_the_speech_is_no_text():
    found = read(HEL, BGM_TAG, LO)
    assert (found.text, found.tokens, found.event) == ("hello", ("▁hel", "lo"), "Speech")
    assert found.timestamps == ((0, 30), (90, 150))


def test_no_speech_is_an_empty_text_that_keeps_its_event():
    found = read(0, HEL, event="<|BGM|>", options=StreamOptions(language="nospeech"))
    assert (found.text, found.tokens, found.timestamps) == ("", (), ())
    assert (found.language, found.event) == ("", "BGM")


def test_han_and_spaces_are_joined_as_sentencepiece_does():
    assert read(NI, HAO, SPACE, HEL, LO, COMMA, NI).text == "你好 hello,你"


@pytest.mark.parametrize(
    ("asked", "told"), [("auto", "zh"), ("", "zh"), ("en", "en"), ("en-US", "en"), ("EN", "en")]
)
def test_the_language_asked_for_goes_into_the_graph(asked, told):
    model = load(0, HEL)
    options = StreamOptions(language=asked)
    assert model.decode([SECOND], options)[0].language == told
    assert model.remarks(options) == ()


def test_an_unknown_language_is_found_out_by_the_model_and_said():
    model, options = load(0, HEL), StreamOptions(language="fr")
    assert model.decode([SECOND], options)[0].language == "zh"
    assert "language 'fr' is not known to test-model" in model.remarks(options)[0]
    assert "yue" in model.remarks(options)[0]


def test_without_punctuation_the_graph_writes_words_alone():
    found = read(0, HEL, options=StreamOptions(punctuation=False))
    assert (found.text, found.formatted) == ("hel", False)


@pytest.mark.parametrize(("itn", "form"), [(True, 14), (False, 15)])
def test_the_itn_switch_goes_into_the_graph(itn, form):
    model, seen = load(0, HEL), []
    model._graph.watch(seen.append)
    found = model.decode([SECOND], StreamOptions(itn=itn))[0]
    assert [feeds["textnorm"].tolist() for feeds in seen] == [[form]]
    assert found.formatted is itn


@pytest.mark.parametrize(
    ("language", "index"),
    [("zh", 3), ("en", 4), ("yue", 7), ("ja", 11), ("ko", 12), ("nospeech", 13), ("auto", 0)],
)
def test_languages_have_the_indices_of_the_model(language, index):
    assert language_index(language) == index


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ([], Tags()),
        (["<|ja|>"], Tags("ja")),
        (["▁the", "<unk>", "<|BGM|>", "<|woitn|>"], Tags("", "", "BGM")),
        (["<|nospeech|>", "<|SAD|>", "<|Cry|>", "<|withitn|>"], Tags("", "SAD", "Cry", False)),
    ],
)
def test_tags_are_read_by_their_place(tokens, tags):
    assert read_tags(tokens) == tags
