"""How texts of consecutive segments become one text."""

from __future__ import annotations

from collections.abc import Iterable

_NO_SPACE_BEFORE = ",.!?;:)]}'\""


def join_texts(texts: Iterable[str]) -> str:
    """The texts in one line: a space at a seam that touches Latin script or digits, none in Han.

    Empty texts are left out.
    """
    joined = ""
    for text in texts:
        stripped = text.strip()
        if not stripped:
            continue
        if joined and _needs_space(joined[-1], stripped[0]):
            joined += " "
        joined += stripped
    return joined


def _needs_space(left: str, right: str) -> bool:
    if right in _NO_SPACE_BEFORE:
        return False
    return left.isascii() or right.isascii()
