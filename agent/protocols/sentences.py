"""`stamp_sents`: a final cut at its punctuation, each piece with its times."""

from __future__ import annotations

from typing import Any

from agent.types import Transcript

MARKS = frozenset(",.?!;:，。？！；：、")
"""Punctuation that ends a piece."""
_CONTINUES = "@@"


def split_sentences(final: Transcript) -> list[dict[str, Any]]:
    """Pieces of a final that has timestamps, in order, each with its tokens, mark and times.

    One piece without a mark when the tokens can't be found in the text (numbers that were
    rewritten, for example).
    """
    ends = _piece_ends(final)
    pieces, first = [], 0
    for behind, mark in ends:
        times = final.timestamps[first:behind]
        pieces.append(
            {
                "text_seg": " ".join(final.tokens[first:behind]),
                "punc": mark,
                "start": times[0][0],
                "end": times[-1][1],
                "ts_list": [list(pair) for pair in times],
            }
        )
        first = behind
    return pieces


def _piece_ends(final: Transcript) -> list[tuple[int, str]]:
    """For each piece the index behind its last token, and its mark."""
    count = len(final.timestamps)
    if len(final.tokens) != count:
        return [(count, "")]
    ends: list[tuple[int, str]] = []
    text, at = final.text.casefold(), 0
    for i, token in enumerate(final.tokens):
        spelled = token.removesuffix(_CONTINUES).casefold()
        found = text.find(spelled, at)
        between = text[at:found]
        if not spelled or found < 0 or any(c.isalnum() for c in between):
            return [(count, "")]
        if i and (mark := _first_mark(between)):
            ends.append((i, mark))
        at = found + len(spelled)
    return [*ends, (count, _first_mark(text[at:]))]


def _first_mark(text: str) -> str:
    return next((char for char in text if char in MARKS), "")
