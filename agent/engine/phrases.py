"""Hotwords as ids of tokens: Chinese by characters, English by the pieces of `seg_dict`."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from agent.engine.text import SPECIAL_TOKENS
from agent.said import say

MAX_PHRASE_TOKENS = 64
"""More tokens than any name or term has."""
MAX_REASONS = 10
"""Reasons told one by one; the others are counted."""

_UNIT = re.compile(r"[a-z']+|\S")
"""A word in Latin script, or any other character on its own."""
_SHOWN = 40


@dataclass(frozen=True)
class PhraseIds:
    """Ids of the tokens of each phrase that can be used, and why something is left out."""

    rows: tuple[tuple[int, ...], ...]
    reasons: tuple[str, ...] = ()


class SegDict:
    """The file `seg_dict`: lines of a word and its pieces.

    Published ones have hundreds of thousands of lines, so the file is kept as it is and read
    through once for a whole list of words.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def find(self, words: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Pieces of those `words` that it has."""
        wanted = {word.encode() for word in words}
        found: dict[str, tuple[str, ...]] = {}
        for line in io.BytesIO(self._data) if wanted else ():
            word, *pieces = line.split(None, 1)[:2] or [b""]
            if word in wanted and pieces:
                found[word.decode()] = tuple(pieces[0].decode(errors="replace").split())
        return found


class Segmenter:
    """Phrases to ids of a vocabulary."""

    def __init__(self, tokens: Sequence[str], seg_dict: SegDict) -> None:
        self._ids = {token: i for i, token in enumerate(tokens) if token not in SPECIAL_TOKENS}
        self._seg_dict = seg_dict

    def segment(self, phrases: Sequence[str]) -> PhraseIds:
        """Ids of each phrase, in lower case as the vocabularies are.

        What the model has no token for is left out of its phrase, and a phrase of which nothing
        is left, or that is longer than MAX_PHRASE_TOKENS, is left out as a whole.
        """
        words = [phrase.lower().split() for phrase in phrases]
        units = {unit for word in _flat(words) for unit in (word, *_UNIT.findall(word))}
        pieces = self._seg_dict.find(units)
        rows, reasons = [], []
        for phrase, parts in zip(phrases, words, strict=True):
            row: list[int] = []
            unknown: list[str] = []
            for word in parts:
                self._add(word, pieces, row, unknown)
            if reason := _reason(row, unknown):
                said = say(
                    "hotword", "hotword {phrase!r}: {reason}", phrase=_short(phrase), reason=reason
                )
                reasons.append(said)
            if 0 < len(row) <= MAX_PHRASE_TOKENS:
                rows.append(tuple(row))
        return PhraseIds(tuple(rows), _some(reasons))

    def _add(
        self, word: str, pieces: dict[str, tuple[str, ...]], row: list[int], unknown: list[str]
    ) -> None:
        """Append the ids of a word, by itself or unit by unit; name the units that have none."""
        whole = self._lookup(word, pieces)
        for unit in [word] if whole else _UNIT.findall(word):
            ids = whole or self._lookup(unit, pieces)
            row += ids
            if not ids:
                unknown.append(unit)

    def _lookup(self, unit: str, pieces: dict[str, tuple[str, ...]]) -> list[int]:
        ids = [self._ids.get(piece) for piece in pieces.get(unit, (unit,))]
        known = [i for i in ids if i is not None]
        return known if len(known) == len(ids) else []


def _flat(nested: Iterable[Iterable[str]]) -> list[str]:
    return [item for items in nested for item in items]


def _reason(row: Sequence[int], unknown: Sequence[str]) -> str:
    if len(row) > MAX_PHRASE_TOKENS:
        said = "left out, it is longer than {most} tokens"
        return say("hotword_long", said, most=MAX_PHRASE_TOKENS)
    if not unknown:
        return ""
    named = ", ".join(dict.fromkeys(_short(unit) for unit in unknown[:MAX_REASONS]))
    if not row:
        return say("hotword_unknown", "left out, the model has no token for {units}", units=named)
    said = "used without {units}, for which the model has no token"
    return say("hotword_partly", said, units=named)


def _some(reasons: Sequence[str]) -> tuple[str, ...]:
    if len(reasons) <= MAX_REASONS:
        return tuple(reasons)
    more = say("hotwords_more", "and {n} more hotwords likewise", n=len(reasons) - MAX_REASONS)
    return (*reasons[:MAX_REASONS], more)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
