"""From tokens to text, by FunASR's rules for its vocabularies.

Paraformer: `@@` marks a piece that the next token continues; words in Latin script are spaced from
each other, never from Han; single letters in a row are an abbreviation (`u s a` -> `USA`).
Sentencepiece (SenseVoice, English Paraformer): `▁` stands for the space before a piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

SPECIAL_TOKENS = frozenset(("<blank>", "<s>", "</s>", "<unk>", "<filler>"))
"""Tokens that stand for no text."""
_CONTINUES = "@@"
_SPACE = "▁"
_SPACES = re.compile(" +")

TextRule = Callable[[Iterable[str]], str]


def text_rule(vocabulary: Iterable[str]) -> TextRule:
    """How the tokens of a vocabulary become text."""
    return pieces_to_text if any(_SPACE in token for token in vocabulary) else tokens_to_text


def pieces_to_text(pieces: Iterable[str]) -> str:
    """The text of a sequence of sentencepiece's pieces."""
    joined = "".join(piece for piece in pieces if piece not in SPECIAL_TOKENS)
    return _SPACES.sub(" ", joined.replace(_SPACE, " ")).strip()


def tokens_to_text(tokens: Iterable[str]) -> str:
    """The text of a token sequence of a Paraformer vocabulary."""
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
