"""Text as commands are compared: without marks, case and fillers, its numbers in figures.

What may be misheard is told from what may not: words that turn the sense of a command (on and off,
开 and 关, not) and numbers are fixed, and an edit never touches them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from agent.voice_commands.numbers import english_number, han_to_figures

NUMBER_SLOT, DIGITS_SLOT = "\ue000", "\ue001"
"""Stand for a number, and for digits, in the text of a phrase."""

FIXED_HAN = frozenset(
    "开关闭启停高低升降大小增减上下左右前后进退不别没勿未无冷热快慢多少锁解今明昨"
)
_TURNING = (
    "on off up down left right open close shut start stop begin end yes no not dont never without "
    "forward back backward backwards in out next previous first last more less high low higher "
    "lower hot cold warmer cooler louder quieter faster slower lock unlock enable disable mute "
    "unmute increase decrease raise reduce today tomorrow yesterday"
)
FIXED_WORDS = frozenset(_TURNING.split())
"""Words that turn the sense of a command."""
FILLERS = frozenset(("the", "a", "an", "please", "um", "uh", "er", "hmm"))

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(
    f"(?P<slot>[{NUMBER_SLOT}{DIGITS_SLOT}])"
    "|(?P<figure>[0-9]+(?:[.,:][0-9]+)*)"
    f"|(?P<char>[%°{_CJK}])"
    rf"|(?P<word>[^\W\d_{_CJK}]+)"
)
_APOSTROPHES = re.compile("['’ʼ`]")
_THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+")
_HAN_FILLERS_BEFORE = re.compile(r"^(?:\W*(?:请|嗯|呃|啊|麻烦|帮我))+")
_HAN_FILLERS_BEHIND = re.compile(r"(?:(?:吧|啊|呀|呢|哦|嘛|谢谢)\W*)+$")
_SAID = re.compile(rf"[^\W_]|[{NUMBER_SLOT}{DIGITS_SLOT}]")
_PER_CENT = re.compile(rf"百分之\s*([0-9.]+|[{NUMBER_SLOT}{DIGITS_SLOT}])")
_SIGNS = {"percent": "%", "degree": "°", "degrees": "°", "celsius": "", "centigrade": ""}


@dataclass(frozen=True)
class Number:
    """Numbers that follow each other with nothing between."""

    figures: tuple[str, ...]
    """As they were said: `25`, or `2` and `5`."""

    @property
    def digits(self) -> str | None:
        """All of its digits; None where it is not whole."""
        return "".join(self.figures) if all(f.isdecimal() for f in self.figures) else None

    @property
    def value(self) -> int | None:
        """The one whole number that it is; None for digits read one by one."""
        digits = self.digits
        if digits is None or len(self.figures) > 1 or len(digits) > 9:
            return None
        return int(digits) if digits == "0" or not digits.startswith("0") else None

    @property
    def slots(self) -> int:
        """How many slots of a phrase it holds."""
        return sum(figure in (NUMBER_SLOT, DIGITS_SLOT) for figure in self.figures)


Fixed = str | Number


@dataclass(frozen=True)
class Normal:
    """A text in parts: `pieces[0] fixed[0] pieces[1] ... fixed[-1] pieces[-1]`."""

    fixed: tuple[Fixed, ...]
    pieces: tuple[str, ...]
    """Han characters, and Latin letters without the spaces between words."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that could be said."""
        return not self.fixed and not any(self.pieces)

    @property
    def sense(self) -> tuple[str, ...]:
        """The fixed parts, whatever the numbers are; equal for texts that can be compared."""
        return tuple("#" if isinstance(part, Number) else part for part in self.fixed)


def normalise(text: str) -> Normal:
    """A recognised text as it is compared; of any length, in any script."""
    return normalise_phrase(text.replace(NUMBER_SLOT, " ").replace(DIGITS_SLOT, " "))


def normalise_phrase(text: str) -> Normal:
    """The same for a phrase, in which NUMBER_SLOT and DIGITS_SLOT stand for what is said there."""
    fixed: list[Fixed] = []
    pieces = [""]
    figures: list[str] = []
    for kind, token in [*_folded(list(_tokens(text))), ("end", "")]:
        if kind in ("figure", "slot"):
            figures.append(token)
            continue
        if figures:
            fixed.append(Number(tuple(figures)))
            pieces.append("")
            figures = []
        if token in FIXED_HAN or token in FIXED_WORDS:
            fixed.append(token)
            pieces.append("")
        else:
            pieces[-1] += token
    return Normal(tuple(fixed), tuple(pieces))


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token; what else there is, is a mark."""
    text = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).casefold())
    rest = _HAN_FILLERS_BEHIND.sub("", _HAN_FILLERS_BEFORE.sub("", text))
    text = rest if _SAID.search(rest) else text  # 谢谢 alone is what was said
    text = _PER_CENT.sub(r"\1%", han_to_figures(text.replace("百分之百", "100%")))
    text = re.sub(r"\bper cent\b", "percent", text.replace("摄氏", "").replace("度", "°"))
    text = re.sub(r"°\s*c\b", "°", text)
    for match in _TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match[0]
        if kind == "figure" and _THOUSANDS.fullmatch(token):
            token = token.replace(",", "")
        if kind != "word" or token not in FILLERS:
            yield kind, _SIGNS.get(token, token)


def _folded(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """English number words become figures."""
    words = [token if kind == "word" else "" for kind, token in tokens]
    at = 0
    while at < len(tokens):
        read = english_number(words, at)
        if read is None:
            yield tokens[at]
            at += 1
        else:
            yield "figure", str(read[0])
            at = read[1]
