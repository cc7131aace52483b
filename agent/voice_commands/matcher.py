"""Finds the command that a text is, within a bound of edits. Nothing is guessed: where two
commands are equally near there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from agent.types import SpokenCommand
from agent.voice_commands.normal import DIGITS_SLOT, NUMBER_SLOT, Normal, Number, normalise
from agent.voice_commands.phrases import CommandPhrases, Spelling, spellings

LONGEST_TEXT = 500
"""Characters; a longer text is no command."""
_JOINT = "\ue002"
"""Between the pieces of a text; no recognised text has it."""


@dataclass(frozen=True)
class Match:
    """What was found in a text."""

    command: SpokenCommand | None = None
    rivals: tuple[str, ...] = ()
    """Commands that are equally near, where that is why there is none."""


@dataclass
class _Group:
    """Spellings of the same sense."""

    spellings: list[Spelling] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    """The pieces of each, for a first look at all of them at once."""
    limit: int = 0
    """The largest bound."""

    def add(self, spelling: Spelling) -> None:
        self.spellings.append(spelling)
        self.joined.append(_JOINT.join(spelling.normal.pieces))
        self.limit = max(self.limit, spelling.max_edits)

    def near(self, said: Normal) -> list[Spelling]:
        """Those that may be within the limit: edits inside the pieces are never fewer than in
        the whole."""
        text = _JOINT.join(said.pieces)
        close = process.extract(
            text,
            self.joined,
            scorer=Levenshtein.distance,
            processor=None,
            score_cutoff=self.limit,
            limit=None,
        )
        return [self.spellings[index] for _, _, index in close]


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
        self._by_sense: dict[tuple[str, ...], _Group] = {}
        names = []
        for command in commands:
            names.append(command.name)
            for phrase in command.phrases:
                for spelling in spellings(command, phrase):
                    self._by_sense.setdefault(spelling.normal.sense, _Group()).add(spelling)
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
        group = self._by_sense.get(said.sense, _Group())
        found = []
        for spelling in group.near(said):
            numbers = _numbers(spelling, said)
            edits = _edits(spelling.normal.pieces, said.pieces)
            if numbers is not None and edits <= group.limit:
                slots = dict([*spelling.values, *numbers])
                command = SpokenCommand(spelling.name, slots, spelling.phrase, edits)
                rank = (edits, len(spelling.open))
                found.append(_Found(command, edits <= spelling.max_edits, rank))
        return found


def _edits(phrase: Sequence[str], said: Sequence[str]) -> int:
    """Characters to insert, delete or replace."""
    pairs = zip(phrase, said, strict=True)
    return sum(Levenshtein.distance(one, other) for one, other in pairs)


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
