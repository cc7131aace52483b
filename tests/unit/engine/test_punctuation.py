"""CT-Transformer: words, windows, and marks where they belong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from agent.engine.base import EngineSettings
from agent.engine.families import load_model
from agent.engine.families.ct_punctuation import CtPunctuation
from agent.engine.families.ct_punctuation_realtime import (
    CONTEXT_WORDS,
    RealtimePunctuation,
    vad_mask,
)
from agent.engine.punctuation import (
    Punctuator,
    Vocabulary,
    insert_marks,
    mark_words,
    split_words,
)
from agent.errors import CompatibilityError, InferenceError, ManifestError
from tests.unit.engine.graphs import Files

MARKS = ("", "", "，", "。", "？", "、")
NONE, COMMA, PERIOD, QUESTION, PAUSE = 1, 2, 3, 4, 5
TOKENS = ["<blank>", *"天地人你我他好了吗呢", "hello", "world", "<unk>"]


class Marker:
    """A fake graph: marks the words of a run as `rule` says, and keeps what it was fed."""

    name = "fake"

    def __init__(self, rule: Callable[[Sequence[int]], Sequence[int]]) -> None:
        self._rule = rule
        self.runs: list[Mapping[str, Any]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.runs.append(feeds)
        ids = feeds["inputs"][0].tolist()
        assert feeds["inputs"].dtype == np.int32
        assert feeds["text_lengths"].tolist() == [len(ids)]
        return {"logits": np.eye(len(MARKS), dtype=np.float32)[list(self._rule(ids))][None]}

    @property
    def lengths(self) -> list[int]:
        return [feeds["inputs"].shape[1] for feeds in self.runs]


def by_word(**marks: int) -> Marker:
    """Marks each of these words wherever it stands."""
    ids = {TOKENS.index(word): mark for word, mark in marks.items()}
    return Marker(lambda run: [ids.get(i, NONE) for i in run])


def offline(graph: Marker) -> CtPunctuation:
    return CtPunctuation(Punctuator(graph, Vocabulary(TOKENS), MARKS))  # type: ignore[arg-type]


def realtime(graph: Marker) -> RealtimePunctuation:
    punctuator = Punctuator(graph, Vocabulary(TOKENS), MARKS)  # type: ignore[arg-type]
    return RealtimePunctuation(punctuator)


def words_of(text: str) -> list[str]:
    return [word.text for word in split_words(text)]


def test_han_characters_and_runs_of_ascii_are_words() -> None:
    words = ["hello", "世", "界", "it's", "3.5", "度", "À", "b"]
    assert words_of("hello世界 it's 3.5度\tÀb") == words
    assert words_of(" \n\u3000") == []


def test_every_token_has_its_id_and_other_words_have_that_of_unknown() -> None:
    vocabulary = Vocabulary(TOKENS)
    assert [vocabulary.id(token) for token in TOKENS] == list(range(len(TOKENS)))
    unknown = TOKENS.index("<unk>")
    assert [vocabulary.id(w) for w in ("", "x", "鬱", "\ud800", "hell", "helloo")] == [unknown] * 6
    assert Vocabulary(["b", "a", "other"]).id("c") == 2


def test_marks_are_put_behind_their_words() -> None:
    marker = by_word(天=COMMA, 人=QUESTION, 你=PAUSE)
    assert offline(marker).punctuate("天地人你我") == "天，地人？你、我。"


def test_behind_words_in_ascii_marks_are_in_ascii_and_the_spacing_stays() -> None:
    marker = by_word(hello=COMMA, world=QUESTION, 好=COMMA)
    text = "hello  world hello 好 hello你"
    assert offline(marker).punctuate(text) == "hello,  world? hello, 好， hello,你。"
    assert offline(by_word()).punctuate("hello USA") == "hello USA."
    assert offline(by_word(hello=PAUSE)).punctuate("hello 你") == "hello、 你。"


@pytest.mark.parametrize(
    ("mark", "end"), [(NONE, "。"), (COMMA, "。"), (PAUSE, "。"), (PERIOD, "。"), (QUESTION, "？")]
)
def test_a_text_ends_with_the_end_of_a_sentence(mark: int, end: str) -> None:
    assert offline(by_word(好=mark)).punctuate("你好") == "你好" + end


def test_a_text_without_words_stays_as_it_is() -> None:
    marker = by_word()
    assert offline(marker).punctuate("  ") == "  "
    assert realtime(marker).start_stream().punctuate("") == ""
    assert marker.runs == []


def test_a_mark_in_the_text_gets_none_behind_it() -> None:
    assert offline(by_word()).punctuate("你好。") == "你好。"
    assert insert_marks("a.", split_words("a."), ["。"]) == "a."


@given(st.text("天好 hello，a\u3000é", max_size=60), st.data())
def test_nothing_but_marks_is_ever_added(text: str, data: st.DataObject) -> None:
    words = split_words(text)
    marks = [data.draw(st.sampled_from(MARKS)) for _ in words]
    marked = insert_marks(text, words, marks)
    strip = re.compile("[，。？、,.?]")
    assert strip.sub("", marked) == strip.sub("", text)
    assert len(marked) - len(text) <= sum(map(bool, marks))


def test_short_texts_are_one_run() -> None:
    marker = by_word()
    offline(marker).punctuate("天" * 20)
    assert marker.lengths == [20]


def test_what_follows_the_last_sentence_is_read_again_with_the_next_window() -> None:
    marker = by_word(好=PERIOD)
    offline(marker).punctuate("天" * 9 + "好" + "地" * 15)
    assert marker.lengths == [20, 15]
    assert marker.runs[1]["inputs"][0].tolist() == [TOKENS.index("地")] * 15


def test_without_the_end_of_a_sentence_the_whole_is_read_again() -> None:
    marker = by_word(好=COMMA)
    offline(marker).punctuate("天好" * 23)
    assert marker.lengths == [20, 40, 46]


def test_the_last_word_of_a_window_and_the_first_two_end_no_sentence() -> None:
    marker = by_word(好=PERIOD)
    offline(marker).punctuate("天好" + "地" * 17 + "好" + "人")
    assert marker.lengths == [20, 21]


def test_a_sentence_without_end_is_ended_at_its_last_comma() -> None:
    marker = by_word(好=COMMA)
    marked = offline(marker).punctuate("天地" * 10 + "好" + "天地" * 115)
    assert marker.lengths == [*range(20, 221, 20), 219, 230]
    assert marked.count("。") == 2
    assert "好。" in marked


def test_no_text_makes_the_runs_grow_without_end() -> None:
    marker = by_word()
    offline(marker).punctuate("天" * 3000)
    assert max(marker.lengths) == 420


def test_the_windows_mark_every_word_once() -> None:
    decided = mark_words(range(1000), lambda run: ["。" if i % 37 == 5 else "" for i in run])
    assert [i for i, mark in enumerate(decided) if mark] == [*range(5, 1000, 37)]


def test_the_closing_mark_stays_with_its_segment() -> None:
    stream = realtime(by_word(好=PERIOD, 吗=QUESTION, 了=COMMA)).start_stream()
    assert [stream.punctuate(text) for text in ("你好", "我了", "他吗", "天地")] == [
        "你好。",
        "我了，",
        "他吗？",
        "天地",
    ]


def test_a_segment_is_read_with_the_sentence_that_was_left_open() -> None:
    marker = by_word(好=PERIOD)
    stream = realtime(marker).start_stream()
    for text in ("天地", "人我", "天天好地", "他"):
        stream.punctuate(text)
    assert [feeds["inputs"][0].tolist() for feeds in marker.runs] == [
        [TOKENS.index(word) for word in run]
        for run in ("天地", "天地人我", "天地人我天天好地", "地他")
    ]


def test_what_a_stream_remembers_is_bounded() -> None:
    marker = by_word()
    stream = realtime(marker).start_stream()
    for _ in range(100):
        stream.punctuate("天" * 7)
    assert max(marker.lengths) == CONTEXT_WORDS + 7


def test_streams_do_not_know_of_each_other() -> None:
    marker = by_word()
    model = realtime(marker)
    for _ in range(2):
        model.start_stream().punctuate("天地")
    assert marker.lengths == [2, 2]
    assert offline(marker).start_stream().punctuate("天") == "天。"


def test_a_whole_text_ends_with_the_end_of_a_sentence_in_the_model_for_streams_too() -> None:
    assert realtime(by_word(好=COMMA)).punctuate("你好") == "你好。"
    assert realtime(by_word(好=QUESTION)).punctuate("你好") == "你好？"


def test_only_the_last_word_before_a_segment_sees_it_in_the_last_layer() -> None:
    assert vad_mask(4, 2)[0, 0].tolist() == [[1, 1, 0, 0], [1] * 4, [1] * 4, [1] * 4]
    assert vad_mask(3, 0).all()
    assert vad_mask(3, 3).all()


def test_no_word_sees_a_later_one_in_the_layers_before() -> None:
    marker = by_word()
    stream = realtime(marker).start_stream()
    stream.punctuate("天地人")
    stream.punctuate("你")
    feeds = marker.runs[1]
    assert np.array_equal(feeds["sub_masks"][0, 0], np.tril(np.ones((4, 4))))
    assert np.array_equal(feeds["vad_masks"], vad_mask(4, 3))
    assert feeds["sub_masks"].dtype == feeds["vad_masks"].dtype == np.float32


def graph(*, masks: bool = False, nan: bool = False) -> bytes:
    """ids -> a row of a table: word i has the mark i % 6."""
    rows = np.eye(len(MARKS), dtype=np.float32)[[i % len(MARKS) for i in range(len(TOKENS))]]
    table = numpy_helper.from_array(np.full_like(rows, np.nan) if nan else rows, "table")
    size = ["n", "n"] if masks else ["b", "n"]
    inputs = [
        helper.make_tensor_value_info("inputs", TensorProto.INT32, [1 if masks else "b", "n"]),
        helper.make_tensor_value_info("text_lengths", TensorProto.INT32, [1 if masks else "b"]),
    ]
    for name in ("vad_masks", "sub_masks") if masks else ():
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, *size]))
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, None, len(MARKS)])
    node = helper.make_node("Gather", ["table", "inputs"], ["logits"])
    made = helper.make_graph([node], "g", inputs, [out], [table])
    opset = helper.make_opsetid("", 14)
    return helper.make_model(made, opset_imports=[opset], ir_version=8).SerializeToString()


PUBLISHED = {"model_conf": {"punc_list": ["<unk>", "_", "，", "。", "？", "、"]}}
OLDER = {"punctuation": "target_delay", "punc_list": ["<unk>", "_", ",", "。", "?", "、"]}


def files(config: Any, data: bytes, **more: bytes) -> Files:
    side = {
        "config.yaml": yaml.safe_dump(config, allow_unicode=True).encode(),
        "tokens.json": json.dumps(TOKENS).encode(),
        **more,
    }
    return Files(side, {"model": data})


@pytest.mark.parametrize("config", [PUBLISHED, OLDER], ids=["published", "older"])
@pytest.mark.parametrize("family", ["ct_punctuation", "ct_punctuation_realtime"])
def test_a_graph_of_either_generation_is_loaded_and_run(config: Any, family: str) -> None:
    data = graph(masks=family.endswith("realtime"))
    model = load_model(family, files(config, data), EngineSettings())
    assert model.punctuate("地人你我天") == "地，人。你？我、天。"
    assert model.start_stream().punctuate("地人") == "地，人。"


@pytest.mark.parametrize(
    "listed", [None, "_,。", ["_"], ["_", 1], ["_"] * 65, ["_", "。", "？"]], ids=str
)
def test_marks_that_do_not_fit_are_refused(listed: Any) -> None:
    config = {"model_conf": {"punc_list": listed}}
    with pytest.raises((ManifestError, CompatibilityError)) as caught:
        load_model("ct_punctuation", files(config, graph()), EngineSettings())
    assert "punc_list" in caught.value.message or "logits" in caught.value.message


@pytest.mark.parametrize("config", [b"a: [", b"- 1"])
def test_a_config_that_is_none_is_refused(config: bytes) -> None:
    broken = files(PUBLISHED, graph(), **{"config.yaml": config})
    with pytest.raises(ManifestError, match=r"config\.yaml: is not"):
        load_model("ct_punctuation", broken, EngineSettings())


def test_the_graph_for_streams_is_no_graph_for_texts() -> None:
    with pytest.raises(CompatibilityError, match="vad_masks"):
        load_model("ct_punctuation_realtime", files(PUBLISHED, graph()), EngineSettings())


def test_a_model_that_needs_jieba_is_refused() -> None:
    with_jieba = files(PUBLISHED, graph(), jieba_usr_dict=b"")
    with pytest.raises(CompatibilityError, match="272727 words"):
        load_model("ct_punctuation", with_jieba, EngineSettings())


def test_damaged_weights_are_told() -> None:
    model = load_model("ct_punctuation", files(PUBLISHED, graph(nan=True)), EngineSettings())
    with pytest.raises(InferenceError, match="NaN"):
        model.punctuate("天")
