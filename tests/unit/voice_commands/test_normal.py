"""Texts as they are compared: numbers, marks, fillers, words that turn the sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.voice_commands.normal import Normal, Number, normalise

HAN = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"]
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
]
ONES += ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_han(value: int) -> str:
    tens, ones = divmod(value, 10)
    if not tens:
        return HAN[ones]
    return (HAN[tens] if tens > 1 else "") + "十" + (HAN[ones] if ones else "")


def in_english(value: int) -> str:
    tens, ones = divmod(value, 10)
    if value < 20:
        return ONES[value]
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


def value(text: str) -> object:
    (number,) = normalise(text).fixed
    assert isinstance(number, Number)
    return number.value


@pytest.mark.parametrize("number", range(100))
def test_words_and_figures_below_a_hundred_are_the_same_number(number: int) -> None:
    spoken = [in_han(number), in_english(number), in_english(number).replace(" ", "-")]
    for text in (*spoken, str(number), in_english(number).upper()):
        assert value(text) == number, text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("两百", 200),
        ("一百零五", 105),
        ("一百五", 150),
        ("三百二十一", 321),
        ("一百一十", 110),
        ("九百九十九", 999),
        ("a hundred", 100),
        ("one hundred and five", 105),
        ("three hundred twenty one", 321),
        ("1,200", 1200),
        ("２５", 25),
    ],
)
def test_larger_numbers_are_read(text: str, number: int) -> None:
    assert value(text) == number


@pytest.mark.parametrize("text", ["二五", "2 5", "two five", "25.5", "007", "1234567890123"])
def test_what_is_not_one_whole_number_has_no_value(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize("text", ["一三八零零", "幺三八〇〇", "13800", "one three eight zero zero"])
def test_digits_are_the_same_however_they_are_written(text: str) -> None:
    (number,) = normalise(text).fixed
    assert isinstance(number, Number)
    assert number.digits == "13800"


@pytest.mark.parametrize(
    "texts",
    [
        ("二十五度", "25度", "25℃", "25°C", "25 °", "摄氏25度", "twenty five degrees"),
        ("百分之五十", "50%", "五十%", "５０％", "fifty percent", "50 per cent"),
        ("百分之百", "100%", "a hundred percent"),
        (
            "打开客厅的灯",
            "打开客厅的灯。",
            " 打开，客厅的灯！",
            "请打开客厅的灯吧",
            "嗯，打开客厅的灯。",
        ),
        ("Turn on the light.", "turn on light", "please TURN ON the light", "turn-on a light"),
        ("What's the time?", "whats time", "what’s the time"),
    ],
)
def test_ways_of_writing_the_same_words_are_equal(texts: tuple[str, ...]) -> None:
    assert {normalise(text) for text in texts} == {normalise(texts[0])}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("打开灯", "关闭灯"),
        ("上一首", "下一首"),
        ("turn on the light", "turn off the light"),
        ("打开灯", "不要打开灯"),
        ("turn on the light", "don't turn on the light"),
        ("一号灯", "二号灯"),
    ],
)
def test_words_that_turn_the_sense_make_texts_that_are_never_near(one: str, other: str) -> None:
    assert normalise(one).fixed != normalise(other).fixed


@pytest.mark.parametrize("text", ["谢谢", "请", "啊吧。"])
def test_a_filler_alone_is_what_was_said(text: str) -> None:
    assert normalise(text) == Normal((), (text.strip("。"),))


@pytest.mark.parametrize("text", ["", " ", "。？!", "the", "um, please", "\ue000", "_"])
def test_there_may_be_nothing_in_a_text(text: str) -> None:
    assert normalise(text).is_empty


@given(st.text(max_size=80) | st.text("百分之十二零一°c%的灯请吧onthe hundred25.,:'-", max_size=60))
def test_any_text_can_be_compared(text: str) -> None:
    normal = normalise(text)
    assert len(normal.pieces) == len(normal.fixed) + 1
    assert normal == normalise(text + " ")
