"""Which part of a final's text was spoken when, also where its numbers were rewritten.

The recogniser's tokens have times; they spell the text that was spoken. What was rewritten behind
it ("三百二十五块" to "325块") takes the time of what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise

from agent.types import Transcript

MARKS = frozenset(",.?!;:，。？！；：、")
"""Punctuation that ends a piece."""
SENTENCE_ENDS = frozenset(".?!。？！")

LONGEST_CUE_MS = 7000
"""A subtitle that would stay longer is cut, at a mark or at a pause."""
_LEAST_CUE_MS = 1000
_UNIT = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’&-][A-Za-zÀ-ɏ]+)*|\S")
_NO_TEXT = str.maketrans("", "", "▁ ")
_CONTINUES = "@@"

Span = tuple[int, int]
"""Start and end in ms."""


@dataclass(frozen=True)
class Unit:
    """What FunASR gives one time: a word in Latin script, a Han character, a digit, a sign."""

    start: int
    """Index of its first character in the text."""
    end: int
    """Index behind its last character."""
    start_ms: int
    end_ms: int
    mark: str = ""
    """The mark behind it."""


@dataclass(frozen=True)
class Sentence:
    """A part of a final's text with its time."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class _Piece:
    """Characters [start, end) of a text: a unit, or a mark."""

    start: int
    end: int
    span: Span | None = None
    is_mark: bool = False


def stamped_units(final: Transcript) -> list[Unit]:
    """The units of a final's text in order; empty when its tokens have no times, or do not spell
    the text."""
    pieces = _spelled(final, final.spoken or final.text)
    if pieces and final.spoken:
        pieces = _carried(final.spoken, pieces, final.text)
    units: list[Unit] = []
    for piece in pieces:
        text = final.text[piece.start : piece.end]
        if units and piece.is_mark:
            units[-1] = replace(units[-1], mark=units[-1].mark or text)
        elif units and text in MARKS and text != ":":
            # The point of 3.5 or p.m.: FunASR's page counts no time for it.
            units[-1] = replace(units[-1], end=piece.end)
        elif not piece.is_mark:
            before = units[-1].end_ms if units else final.start_ms
            units.append(Unit(piece.start, piece.end, *(piece.span or (before, before))))
    return units


def sentences(final: Transcript) -> list[Sentence]:
    """The sentences of a final; empty when the times of its words are not known."""
    return _texts(final, _groups(stamped_units(final)))


def cues(final: Transcript, longest_ms: int = LONGEST_CUE_MS) -> list[Sentence]:
    """A final as subtitles: its sentences, long ones in parts; the whole where the times of its
    words are not known."""
    groups: list[Sequence[Unit]] = []
    waiting = [*reversed(_groups(stamped_units(final)))]
    while waiting:
        group = waiting.pop()
        too_long = group[-1].end_ms - group[0].start_ms > longest_ms
        if too_long and (cut := _best_cut(final.text, group)):
            waiting += (group[cut:], group[:cut])
        else:
            groups.append(group)
    return _texts(final, groups) or [Sentence(final.text, final.start_ms, final.end_ms)]


def _spelled(final: Transcript, text: str) -> list[_Piece]:
    """The pieces of `text` with the times of the tokens; empty when they spell another text."""
    if not final.timestamps or len(final.tokens) != len(final.timestamps):
        return []
    letters: list[tuple[str, Span]] = []
    for token, (start, end) in zip(final.tokens, final.timestamps, strict=True):
        spelled = token.removesuffix(_CONTINUES).translate(_NO_TEXT)
        chars = [char.casefold() for char in spelled if char not in MARKS]
        if not token:
            return []
        spans = _shared(start, end, len(chars))
        letters += zip(chars, spans, strict=True)
    at = 0
    pieces = []
    for match in _UNIT.finditer(text):
        if match[0] in MARKS:
            is_mark = _is_mark(text, match.start())
            pieces.append(_Piece(match.start(), match.end(), None, is_mark))
            continue
        found = letters[at : at + len(match[0])]
        if [char for char, _ in found] != [char.casefold() for char in match[0]]:
            return []
        at += len(found)
        pieces.append(_Piece(match.start(), match.end(), (found[0][1][0], found[-1][1][1])))
    return pieces if at == len(letters) else []


def _carried(spoken: str, pieces: Sequence[_Piece], text: str) -> list[_Piece]:
    """The pieces of `text`, which was made of `spoken`, with the times of those of `spoken`."""
    found = [_Piece(match.start(), match.end()) for match in _UNIT.finditer(text)]
    before = [spoken[piece.start : piece.end].casefold() for piece in pieces]
    after = [text[piece.start : piece.end].casefold() for piece in found]
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            for old, new in zip(range(i, i_end), range(j, j_end), strict=True):
                same = pieces[old]
                found[new] = replace(found[new], span=same.span, is_mark=same.is_mark)
            continue
        spans = [piece.span for piece in pieces[i:i_end] if piece.span]
        timed = [n for n in range(j, j_end) if after[n] not in MARKS]
        if spans:
            shares = _shared(spans[0][0], spans[-1][1], len(timed))
            for n, span in zip(timed, shares, strict=True):
                found[n] = replace(found[n], span=span)
    return found


def _shared(start: int, end: int, parts: int) -> list[Span]:
    """A time in equal parts."""
    edges = [start + (end - start) * i // parts for i in range(parts + 1)] if parts else []
    return list(pairwise(edges))


def _groups(units: Sequence[Unit]) -> list[Sequence[Unit]]:
    """The units of each sentence."""
    groups, first = [], 0
    for i, unit in enumerate(units, 1):
        if i == len(units) or (unit.mark and unit.mark in SENTENCE_ENDS):
            groups.append(units[first:i])
            first = i
    return groups


def _texts(final: Transcript, groups: Sequence[Sequence[Unit]]) -> list[Sentence]:
    starts = [0, *(group[0].start for group in groups[1:]), len(final.text)]
    return [
        Sentence(final.text[starts[i] : starts[i + 1]].strip(), group[0].start_ms, group[-1].end_ms)
        for i, group in enumerate(groups)
    ]


def _best_cut(text: str, group: Sequence[Unit]) -> int:
    """Index of the unit that a new subtitle begins with, 0 when there is no such place."""
    middle = (group[0].start_ms + group[-1].end_ms) / 2

    def is_long_enough(i: int) -> bool:
        lengths = (group[i - 1].end_ms - group[0].start_ms, group[-1].end_ms - group[i].start_ms)
        return min(lengths) >= _LEAST_CUE_MS

    def off_middle(i: int) -> float:
        return abs(group[i].start_ms - middle)

    def rank(i: int) -> tuple[bool, int, float]:
        pause = group[i].start_ms - group[i - 1].end_ms
        return (not group[i - 1].mark, 0 if group[i - 1].mark else -pause, off_middle(i))

    between = range(1, len(group))
    allowed = [i for i in between if is_long_enough(i) and not _is_one(text, group[i - 1 : i + 1])]
    return min(allowed, key=rank, default=0)


def _is_one(text: str, pair: Sequence[Unit]) -> bool:
    """Whether two units are parts of a number or a word."""
    left, right = pair
    ends = (text[left.end - 1], text[right.start])
    return left.end == right.start and all(char.isascii() for char in ends)


def _is_mark(text: str, i: int) -> bool:
    if text[i] not in MARKS:
        return False
    return not (text[i - 1 : i].isdigit() and text[i + 1 : i + 2].isdigit())
