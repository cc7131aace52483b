"""When each part of a final was spoken, also where its numbers were rewritten."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.stamps import MARKS, Sentence, cues, sentences, stamped_units
from agent.types import Transcript


def final(text: str, tokens: Sequence[str], spoken: str = "", each_ms: int = 100) -> Transcript:
    """A final whose tokens last `each_ms` without a pause."""
    stamps = tuple((i * each_ms, (i + 1) * each_ms) for i in range(len(tokens)))
    end = len(tokens) * each_ms
    return Transcript("s", 0, text, True, 0, end, tuple(tokens), stamps, spoken=spoken)


def times(found: Transcript) -> list[tuple[str, int, int, str]]:
    return [
        (found.text[unit.start : unit.end], unit.start_ms, unit.end_ms, unit.mark)
        for unit in stamped_units(found)
    ]


def test_han_characters_and_words_are_units_with_the_mark_behind_them() -> None:
    assert times(final("正是，turn left。", ["正", "是", "turn", "left"])) == [
        ("正", 0, 100, ""),
        ("是", 100, 200, "，"),
        ("turn", 200, 300, ""),
        ("left", 300, 400, "。"),
    ]


def test_pieces_of_a_word_are_one_unit() -> None:
    assert times(final("Playing USA", ["play@@", "ing", "u", "s", "a"])) == [
        ("Playing", 0, 200, ""),
        ("USA", 200, 500, ""),
    ]
    assert times(final("Don't, ok", ["▁don", "'", "t", ",", "▁", "▁o", "k"])) == [
        ("Don't", 0, 300, ","),
        ("ok", 500, 700, ""),
    ]


def test_rewritten_numbers_take_the_time_of_what_they_stand_for() -> None:
    spoken = "一共三百二十五块，好"
    found = times(final("一共325块，好", [c for c in spoken if c != "，"], spoken))
    assert found == [
        ("一", 0, 100, ""),
        ("共", 100, 200, ""),
        ("3", 200, 366, ""),
        ("2", 366, 533, ""),
        ("5", 533, 700, ""),
        ("块", 700, 800, "，"),
        ("好", 800, 900, ""),
    ]


def test_a_sign_that_nobody_spoke_shares_the_time_of_its_number() -> None:
    spoken = "it costs twenty five dollars. yes"
    found = times(final("it costs $25. yes", spoken.replace(".", "").split(), spoken))
    assert [unit for unit, *_ in found] == ["it", "costs", "$", "2", "5", "yes"]
    assert found[2][1] == 200
    assert found[4][1:] == (400, 500, ".")


def test_the_point_of_a_number_or_an_abbreviation_is_no_mark() -> None:
    spoken = "at three thirty p m ok"
    found = times(final("at 3.30 p.m. ok", spoken.split(), spoken))
    assert [unit for unit, *_ in found] == ["at", "3.", "3", "0", "p.", "m.", "ok"]
    assert not any(mark for *_, mark in found)
    alone = final("3.5, 2,000", ["3", ".", "5", "2", "000"])
    assert [mark for *_, mark in times(alone) if mark] == [","]


def test_a_colon_within_a_number_counts_as_a_unit() -> None:
    assert [unit for unit, *_ in times(final("10:30", ["10", ":", "30"]))] == list("10:30")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("播放x", ["播", "x", "放"]), ("播放", ["播"]), ("播放", ["", "播", "放"]), ("", ["播"])],
)
def test_tokens_that_spell_another_text_give_no_units(text: str, tokens: list[str]) -> None:
    assert stamped_units(final(text, tokens)) == []
    assert sentences(final(text, tokens)) == []


def test_a_final_without_times_is_one_cue() -> None:
    plain = Transcript("s", 0, "你好。再见。", True, 20, 900)
    assert stamped_units(plain) == []
    assert cues(plain) == [Sentence("你好。再见。", 20, 900)]


def test_cues_are_the_sentences_with_their_times() -> None:
    text = "今天好，是吗？Yes. 再见"
    found = cues(final(text, [*"今天好是吗", "yes", *"再见"]))
    assert found == [
        Sentence("今天好，是吗？", 0, 500),
        Sentence("Yes.", 500, 600),
        Sentence("再见", 600, 800),
    ]
    assert found == sentences(final(text, [*"今天好是吗", "yes", *"再见"]))


def test_a_long_sentence_is_cut_at_a_mark_near_its_middle() -> None:
    text = "一二三，四五六七，八九十甲乙，丙。"
    found = cues(final(text, [c for c in text if c not in MARKS], each_ms=1000))
    assert [cue.text for cue in found] == ["一二三，四五六七，", "八九十甲乙，丙。"]


def test_without_marks_a_long_final_is_cut_at_its_longest_pause() -> None:
    stamps = tuple((i * 1000 + (400 if i > 4 else 0), (i + 1) * 1000) for i in range(10))
    spoken = Transcript(
        "s", 0, "一二三四五六七八九十", True, 0, 10000, tuple("一二三四五六七八九十"), stamps
    )
    assert [cue.text for cue in cues(spoken)] == ["一二三四五", "六七八九十"]


def test_no_cut_goes_through_a_number_or_leaves_a_glimpse() -> None:
    digits = final("1234567890", list("1234567890"), each_ms=2000)
    assert [cue.text for cue in cues(digits)] == ["1234567890"]
    late = final("甲，乙丙丁戊己庚", list("甲乙丙丁戊己庚"), each_ms=990)
    assert cues(late, longest_ms=5000)[0].text != "甲，"


@settings(max_examples=80)
@given(st.lists(st.sampled_from([*"一二三四。，？", "turn", "left", "a."]), max_size=40))
def test_cues_follow_each_other_and_hold_the_whole_text(words: list[str]) -> None:
    text = "".join(f" {word} " if word.isascii() else word for word in words)
    tokens = [w.rstrip(".") for w in words if w not in MARKS]
    found = final(text, tokens, each_ms=700)
    parts = cues(found)
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())
    if stamped_units(found):
        edges = [ms for part in parts for ms in (part.start_ms, part.end_ms)]
        assert edges == sorted(edges)
        assert all(part.text for part in parts)


def test_a_long_final_is_aligned_quickly() -> None:
    spoken = " ".join(["and twenty five people came to the one hundred and fifth floor"] * 40)
    text = spoken.replace("twenty five", "25").replace("one hundred and fifth", "105th")
    started = time.perf_counter()
    units = stamped_units(final(text, spoken.split(), spoken))
    assert time.perf_counter() - started < 2
    assert len(units) == sum(1 if word.isalpha() else len(word) for word in text.split()) - 40
    assert units[-1].end_ms == 100 * len(spoken.split())
