"""Finds the command that a text is, within a bound of edits. Nothing is guessed: where two
commands are equally near there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from agent.types import SpokenCommand
from agent.voice_commands.normal import DIGITS_SLOT, NUMBER_SLOT, Normal, Number, normalise
from agent.voice_commands.phrases import CommandPhrases, Spelling, spellings

LONGEST_TEXT = 500
"""Characters; a longer text is no command."""


@dataclass(frozen=True)
class Match:
    """What was found in a text."""

    command: SpokenCommand | None = None
    rivals: tuple[str, ...] = ()
    """Commands that are equally near, where that is why there is none."""


@dataclass(frozen=True)
class _Found:
    command: SpokenCommand
    within: bool
    """Whether it is within the bound of its phrase."""
    rank: tuple[int, int]
    """Edits, then slots that numbers fill: a phrase that has the number itself is nearer."""


class CommandMatcher:
    """The commands of one configuration. Safe to share between threads."""

    def __init__(self, commands: Iterable[CommandPhrases] = ()) -> None:
        """`commands` without mistakes (`agent.voice_commands.check`); else raises PhraseError."""
        self._by_sense: dict[tuple[str, ...], list[Spelling]] = {}
        names = []
        for command in commands:
            names.append(command.name)
            for phrase in command.phrases:
                for spelling in spellings(command, phrase):
                    self._by_sense.setdefault(spelling.normal.sense, []).append(spelling)
        self.names: tuple[str, ...] = tuple(names)

    def match(self, *texts: str) -> Match:
        """The command that one of `texts` is; they are spellings of the same words, as with
        numbers in words and in figures."""
        found: list[_Found] = []
        for text in texts if self.names else ():
            if len(text) <= LONGEST_TEXT:
                found += self._near(normalise(text))
        if not found:
            return Match()
        nearest = min(one.rank for one in found)
        best = [one for one in found if one.rank == nearest]
        meanings = {(one.command.name, tuple(one.command.slots.items())) for one in best}
        if len(meanings) > 1:
            return Match(rivals=tuple(sorted({name for name, _ in meanings})))
        within = [one.command for one in best if one.within]
        return Match(within[0] if within else None)

    def _near(self, said: Normal) -> list[_Found]:
        """What is near enough to matter, also beyond the bound of its own phrase: text that is
        nearer to one command is not taken for another."""
        candidates = self._by_sense.get(said.sense, ())
        limit = max((spelling.max_edits for spelling in candidates), default=0)
        found = []
        for spelling in candidates:
            numbers = _numbers(spelling, said)
            if numbers is None:
                continue
            edits = _edits(spelling.normal.pieces, said.pieces, limit)
            if edits <= limit:
                slots = dict([*spelling.values, *numbers])
                command = SpokenCommand(spelling.name, slots, spelling.phrase, edits)
                rank = (edits, len(spelling.open))
                found.append(_Found(command, edits <= spelling.max_edits, rank))
        return found


def _edits(phrase: Sequence[str], said: Sequence[str], limit: int) -> int:
    """Characters to insert, delete or replace; `limit` + 1 when there are more than `limit`."""
    total = 0
    for one, other in zip(phrase, said, strict=True):
        total += Levenshtein.distance(one, other, score_cutoff=limit - total)
        if total > limit:
            return limit + 1
    return total


def _numbers(spelling: Spelling, said: Normal) -> list[tuple[str, str | int]] | None:
    """What the open slots hold; None where the numbers are others."""
    names = iter(spelling.open)
    filled: list[tuple[str, str | int]] = []
    for wanted, heard in zip(spelling.normal.fixed, said.fixed, strict=True):
        if not isinstance(wanted, Number) or not isinstance(heard, Number):
            continue  # equal: their senses are
        value: str | int | None
        if wanted.figures == (NUMBER_SLOT,):
            value = heard.value
        elif wanted.figures == (DIGITS_SLOT,):
            value = heard.digits
        elif "".join(wanted.figures) == "".join(heard.figures):
            continue
        else:
            return None
        if value is None:
            return None
        filled.append((next(names), value))
    return filled
