"""From tokens to text, by FunASR's rules for its Paraformer vocabularies.

`@@` marks a piece that the next token continues; words in Latin script are spaced from each
other, never from Han; single letters in a row are an abbreviation (`u s a` -> `USA`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SPECIAL_TOKENS = frozenset(("<blank>", "<s>", "</s>", "<unk>", "<filler>"))
"""Tokens that stand for no text."""
_CONTINUES = "@@"


def tokens_to_text(tokens: Iterable[str]) -> str:
    """The text of a token sequence."""
    text = ""
    previous_was_word = False
    for word in _join_abbreviations(_join_pieces(tokens)):
        is_word = not is_han(word)
        text += (" " if previous_was_word and is_word else "") + word
        previous_was_word = is_word
    return text


def is_han(word: str) -> bool:
    """Whether `word` needs no spaces around it: Han, kana, or a digit of a Han vocabulary."""
    return all(not char.isascii() or char.isdigit() for char in word)


def _join_pieces(tokens: Iterable[str]) -> list[str]:
    words: list[str] = []
    open_piece = ""
    for token in tokens:
        if token in SPECIAL_TOKENS or not token:
            continue
        if token.endswith(_CONTINUES):
            open_piece += token[: -len(_CONTINUES)]
        elif open_piece and is_han(token):
            words += [open_piece, token]
            open_piece = ""
        else:
            words.append(open_piece + token)
            open_piece = ""
    if open_piece:
        words.append(open_piece)
    return words


def _join_abbreviations(words: Sequence[str]) -> list[str]:
    joined: list[str] = []
    letters: list[str] = []
    for word in [*words, ""]:
        if len(word) == 1 and word.isascii() and word.isalpha():
            letters.append(word)
            continue
        if letters:
            joined.append("".join(letters).upper() if len(letters) > 1 else letters[0])
            letters = []
        if word:
            joined.append(word)
    return joined
