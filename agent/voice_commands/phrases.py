"""Phrases with slots, written out: every way in which a command may be said."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.voice_commands.normal import (
    DIGITS_SLOT,
    NUMBER_SLOT,
    Normal,
    Number,
    normalise_phrase,
)

SlotValues = str | Mapping[str, Sequence[str]]
"""`number`, `digits`, or value -> the ways in which it is said."""
KINDS = {"number": NUMBER_SLOT, "digits": DIGITS_SLOT}
MOST_SPELLINGS = 2000
"""Ways in which all commands together may be said."""
HAN_AN_EDIT = 5
"""Han characters of a phrase for each edit that is forgiven in it."""
LETTERS_AN_EDIT = 6
"""The same for the letters of words in other scripts."""
_SLOT = re.compile(r"\{([^{}]*)\}")


class CommandPhrases(Protocol):
    """A command as the configuration has it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def phrases(self) -> Sequence[str]:
        """Text with slots in braces."""

    @property
    def slots(self) -> Mapping[str, SlotValues]:
        """Name of a slot -> what may be said there; `number` and `digits` are always there."""

    @property
    def max_edits(self) -> int | None:
        """Edits that are forgiven; None: by the length of each phrase."""


class PhraseError(ValueError):
    """A phrase can't be used; the message says why."""


@dataclass(frozen=True)
class Spelling:
    """One way of saying a command; only numbers are still open in it."""

    name: str
    phrase: str
    """As it is configured."""
    normal: Normal
    values: tuple[tuple[str, str], ...]
    """Slots that are filled, with their values."""
    open: tuple[str, ...]
    """Names of the slots that numbers fill, in their order."""
    max_edits: int


def spellings(command: CommandPhrases, phrase: str) -> Iterator[Spelling]:
    """All ways of saying one phrase. Raises PhraseError."""
    names = _SLOT.findall(phrase)
    kinds: dict[str, SlotValues] = {**{kind: kind for kind in KINDS}, **command.slots}
    _check(phrase, names, kinds)
    closed = [name for name in names if not isinstance(kinds[name], str)]
    open_ = tuple(name for name in names if isinstance(kinds[name], str))
    said = [_forms(kinds[name]) for name in closed]
    if math.prod(map(len, said)) > MOST_SPELLINGS:
        raise PhraseError(f"its slots make more than {MOST_SPELLINGS} phrases")
    for chosen in itertools.product(*said):
        fill = {name: form for name, (_, form) in zip(closed, chosen, strict=True)}
        fill |= {name: KINDS[str(kinds[name])] for name in open_}
        normal = normalise_phrase(_SLOT.sub(lambda match: fill[match[1]], phrase))  # noqa: B023
        _check_normal(normal)
        values = tuple((name, value) for name, (value, _) in zip(closed, chosen, strict=True))
        bound = most_edits(normal) if command.max_edits is None else command.max_edits
        yield Spelling(command.name, phrase, normal, values, open_, bound)


def most_edits(normal: Normal) -> int:
    """Edits that are forgiven in a phrase of this length: none in a short one."""
    text = "".join([*normal.pieces, *(part for part in normal.fixed if isinstance(part, str))])
    letters = sum(char.isascii() or (char.isalpha() and char < "\u3040") for char in text)
    return (len(text) - letters) // HAN_AN_EDIT + letters // LETTERS_AN_EDIT


def _check(phrase: str, names: Sequence[str], kinds: Mapping[str, SlotValues]) -> None:
    if set("{}") & set(_SLOT.sub("", phrase)):
        raise PhraseError(f"{phrase!r} has a brace without its other one")
    for name in names:
        if name not in kinds:
            known = ", ".join(sorted(kinds))
            raise PhraseError(f"{phrase!r} has the unknown slot {{{name}}}; known are {known}")
        if names.count(name) > 1:
            raise PhraseError(f"{phrase!r} has the slot {{{name}}} twice; give each its own name")


def _check_normal(normal: Normal) -> None:
    if normal.is_empty:
        raise PhraseError("there is no word in it that counts")
    for part in normal.fixed:
        if isinstance(part, Number) and part.slots and len(part.figures) > 1:
            raise PhraseError("a slot for numbers stands beside another number; put a word between")


def _forms(values: SlotValues) -> list[tuple[str, str]]:
    """Pairs of a slot's value and one way of saying it."""
    assert not isinstance(values, str)
    return [(value, form) for value, forms in values.items() for form in forms]
