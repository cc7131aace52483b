"""Inverse text normalisation: numbers as they are written, and never a text lost."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.itn import (
    CACHED_PIECES,
    LONGEST_PIECE,
    Grammar,
    InverseNormalizer,
    load_grammar,
)

ROOT = Path(__file__).parents[3]

needs_wetext = pytest.mark.skipif(
    importlib.util.find_spec("wetext") is None, reason="wetext is not installed here"
)


@pytest.fixture(scope="module")
def itn() -> InverseNormalizer:
    return InverseNormalizer()


def fake(tag: Callable[[str], str]) -> InverseNormalizer:
    """Grammars that tag by a function and verbalize to the token itself."""
    return InverseNormalizer(lambda language: Grammar(tag, lambda token: token, ""))


@needs_wetext
@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("一共花了三百二十五块五毛", "一共花了325块5毛"),
        ("他今年二十五岁，我有百分之三十的把握。", "他今年25岁，我有30%的把握。"),
        ("拨打一三八零零一三八零零零", "拨打13800138000"),
        ("十全十美，万一张三来了？", "十全十美，万一张三来了？"),
        ("今天是二零二四年十二月二十五号", "今天是2024/12/25"),
        ("it costs twenty five dollars and thirty cents.", "it costs $25.30."),
        ("one hundred, two hundred? i have one apple", "100, 200? i have one apple"),
        ("OK 三十", "OK 30"),
        ("欢迎大家来体验达摩院推出的语音识别模型。", "欢迎大家来体验达摩院推出的语音识别模型。"),
    ],
)
def test_numbers_are_written_and_marks_stay(
    itn: InverseNormalizer, spoken: str, written: str
) -> None:
    assert itn(spoken) == written
    assert itn.problem == ""


@needs_wetext
def test_two_numbers_in_a_row_do_not_become_one(itn: InverseNormalizer) -> None:
    assert itn("二零二三年五月三号下午三点半") == "2023/05/03 3:30p.m."


@needs_wetext
def test_an_abbreviation_before_a_full_stop_has_one_point(itn: InverseNormalizer) -> None:
    assert itn("meet me at three thirty p m.") == "meet me at 03:30 p.m."
    assert itn("at three thirty p m, ok") == "at 03:30 p.m., ok"


@needs_wetext
def test_what_the_grammars_can_not_read_stays(itn: InverseNormalizer) -> None:
    text = 'he said "a\\b" {c} and  left'
    assert itn(text) == text


@needs_wetext
@pytest.mark.parametrize(
    "text",
    [
        "第二十一名跑了三公里",
        "一九九九年一千零一夜",
        "上午九点十五分设置十五分钟闹钟",
        "三分之一和负三点五",
        "一千两百三十四万五千六百七十八",
        "january twenty first nineteen eighty four",
        "call me at one two three four five six seven eight nine zero",
        "fifty percent of five kilometers",
        "john at gmail dot com",
        "the year two thousand twenty three",
    ],
)
def test_it_writes_what_wetext_itself_writes(itn: InverseNormalizer, text: str) -> None:
    from wetext import Normalizer

    assert itn(text) == Normalizer(lang="auto", operator="itn").normalize(text)


@needs_wetext
@settings(max_examples=60, deadline=None)
@given(st.text("一百零五点 hundred twenty。,.\"\\{}'-é。3", max_size=30))
def test_no_text_raises_or_loses_its_marks(itn: InverseNormalizer, text: str) -> None:
    written = itn(text)
    assert written.count("。") == text.count("。")
    assert bool(written.strip()) == bool(text.strip())


@needs_wetext
def test_the_grammars_are_loaded_on_first_use_and_wetext_never() -> None:
    code = (
        "import sys; from agent.engine.itn import InverseNormalizer; itn = InverseNormalizer();"
        "assert 'kaldifst' not in sys.modules; assert itn('三百') == '300';"
        "assert 'wetext' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@needs_wetext
def test_a_language_without_a_grammar_is_named() -> None:
    with pytest.raises(OSError, match="xx"):
        load_grammar("xx")


def test_text_in_other_languages_is_left_alone() -> None:
    itn = fake(lambda text: 'cardinal { value: "9" }')
    assert itn("三百", "ja") == "三百"
    assert itn("三百", "ko-KR") == "三百"
    assert itn("三百です") == "三百です"
    assert "9" in itn("三百", "zh-CN")


def test_digits_alone_need_no_grammar() -> None:
    def fail(text: str) -> str:
        raise AssertionError(text)

    assert fake(fail)("123, 4 5") == "123, 4 5"


@pytest.mark.parametrize("tagged", ["", "nonsense", 'char { value: "三" } x', 'a { b: "c }'])
def test_a_grammar_that_answers_nonsense_loses_no_text(tagged: str) -> None:
    itn = fake(lambda text: tagged)
    assert itn("三百，好") == "三百，好"
    assert itn.problem == ""


def test_a_grammar_that_fails_loses_no_text() -> None:
    def fail(text: str) -> str:
        raise RuntimeError("no path")

    assert fake(fail)("三百。") == "三百。"


@pytest.mark.parametrize("error", [ImportError("no kaldifst"), OSError("no such file")])
def test_grammars_that_can_not_be_loaded_switch_it_off_with_the_reason(error: Exception) -> None:
    loads: list[str] = []

    def load(language: str) -> Grammar:
        loads.append(language)
        raise error

    itn = InverseNormalizer(load)
    assert [itn("三百"), itn("四百")] == ["三百", "四百"]
    assert itn.problem == f"wetext can't be loaded: {error}"
    assert loads == ["zh"]


def test_without_the_library_it_is_off_and_says_so() -> None:
    code = (
        "from agent.engine.itn import InverseNormalizer; itn = InverseNormalizer();"
        "assert itn.problem == 'the package wetext is not installed', itn.problem;"
        "assert itn('三百') == '三百'"
    )
    # -S: nothing of what is installed beside Python is found.
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=60, cwd=ROOT)


def test_what_was_rewritten_is_remembered_within_a_bound() -> None:
    seen: list[str] = []

    def tag(text: str) -> str:
        seen.append(text)
        return 'char { value: "x" }'

    itn = fake(tag)
    for _ in range(2):
        for i in range(CACHED_PIECES):
            itn(f"第{i}")
    assert len(seen) == CACHED_PIECES
    itn("又一")
    itn("第0")
    assert len(seen) == CACHED_PIECES + 2


def test_a_piece_without_end_is_left_as_it_is() -> None:
    seen: list[str] = []
    itn = fake(lambda text: seen.append(text) or "")
    assert itn("百" * (LONGEST_PIECE + 1)) == "百" * (LONGEST_PIECE + 1)
    assert seen == []
