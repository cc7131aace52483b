"""Numbers in words to figures: 0 to 999 in Mandarin and English."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DIGITS = dict(zip("零〇一二三四五六七八九", (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_DIGITS |= {"两": 2, "幺": 1}
_D = "[一二两三四五六七八九]"
_HAN_NUMBER = re.compile(
    f"(?P<hundreds>{_D})百"
    f"(?:零(?P<low>{_D})|(?P<tens>{_D})?(?P<ten>十)(?P<ones>{_D})?|(?P<short>{_D}))?"
    f"|(?P<tens2>{_D})?(?P<ten2>十)(?P<ones2>{_D})?"
    f"|(?P<digit>[{''.join(_DIGITS)}])"
)

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate([*_ONES, *_TEENS])}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, 2)}


def han_to_figures(text: str) -> str:
    """The text with its Mandarin number words in figures, spaces around each; digits that are read
    one by one stay apart: `二十五` is ` 25 `, `二五` is ` 2  5 `."""
    return _HAN_NUMBER.sub(lambda match: f" {_han_value(match)} ", text)


def english_number(words: Sequence[str], at: int) -> tuple[int, int] | None:
    """The number that begins with `words[at]`, and the index behind it; None where none does."""
    read = _below_hundred(words, at)
    value, end = read or (1, at)
    if end < len(words) and words[end] == "hundred" and 1 <= value <= 9:
        rest = end + 1
        if rest + 1 < len(words) and words[rest] == "and":
            rest += 1
        behind = _below_hundred(words, rest)
        return (100 * value + behind[0], behind[1]) if behind else (100 * value, end + 1)
    return read


def _han_value(match: re.Match[str]) -> int:
    part = match.groupdict()
    if part["digit"]:
        return _DIGITS[part["digit"]]
    tens = part["tens"] or part["tens2"]
    value = 100 * _DIGITS.get(part["hundreds"] or "", 0)
    if part["ten"] or part["ten2"]:
        value += 10 * (_DIGITS[tens] if tens else 1)
    value += 10 * _DIGITS.get(part["short"] or "", 0)  # 一百五 is 150
    return value + _DIGITS.get(part["low"] or part["ones"] or part["ones2"] or "", 0)


def _below_hundred(words: Sequence[str], at: int) -> tuple[int, int] | None:
    value = _WORDS.get(words[at]) if at < len(words) else None
    if value is None:
        return None
    if value >= 20 and at + 1 < len(words) and 1 <= _WORDS.get(words[at + 1], 0) <= 9:
        return value + _WORDS[words[at + 1]], at + 2
    return value, at + 1
