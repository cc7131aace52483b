"""FunASR's `timestamp` and `stamp_sents`: a final's times, and the final cut at its marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.stamps import Span, Unit, stamped_units
from agent.types import Transcript


def unit_times(final: Transcript) -> list[Span]:
    """A time for each unit of the text (a Han character, a word, a digit), as FunASR's clients
    count them; those of the tokens where they can't be brought together with the text."""
    units = stamped_units(final)
    return [(unit.start_ms, unit.end_ms) for unit in units] or list(final.timestamps)


def split_sentences(final: Transcript) -> list[dict[str, Any]]:
    """Pieces of a final that has timestamps, in order, each with its text, mark and times.

    One piece without a mark when the tokens don't spell the text.
    """
    units = stamped_units(final)
    if not units:
        return [_piece(" ".join(final.tokens), "", final.timestamps)]
    pieces, first = [], 0
    for behind, unit in enumerate(units, 1):
        if unit.mark or behind == len(units):
            pieces.append(_marked(final.text, units[first:behind]))
            first = behind
    return pieces


def _marked(text: str, units: Sequence[Unit]) -> dict[str, Any]:
    words = " ".join(text[unit.start : unit.end] for unit in units)
    return _piece(words, units[-1].mark, [(unit.start_ms, unit.end_ms) for unit in units])


def _piece(words: str, mark: str, times: Sequence[Span]) -> dict[str, Any]:
    return {
        "text_seg": words,
        "punc": mark,
        "start": times[0][0],
        "end": times[-1][1],
        "ts_list": [list(pair) for pair in times],
    }
