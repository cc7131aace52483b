"""What is wrong with configured commands, with the key of each mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.voice_commands.normal import Normal, normalise_phrase
from agent.voice_commands.phrases import (
    KINDS,
    MOST_SPELLINGS,
    CommandPhrases,
    PhraseError,
    Spelling,
    spellings,
)


def command_problems(commands: Sequence[CommandPhrases]) -> list[tuple[str, str]]:
    """Pairs of key and message, for every mistake; empty when all is well."""
    found = [*_name_problems(commands), *_slot_problems(commands)]
    taken: dict[Normal, tuple[str, Spelling]] = {}
    count = 0
    for key, command, phrase in _phrases(commands):
        try:
            for spelling in spellings(command, phrase):
                count += 1
                first_key, first = taken.setdefault(spelling.normal, (key, spelling))
                if (first.name, first.values) != (spelling.name, spelling.values):
                    found.append((key, _shared(first_key, first, spelling)))
                    break
                if count > MOST_SPELLINGS:
                    return [*found, (key, f"the commands make more than {MOST_SPELLINGS} phrases")]
        except PhraseError as error:
            found.append((key, str(error)))
    return found


def _phrases(commands: Sequence[CommandPhrases]) -> Iterator[tuple[str, CommandPhrases, str]]:
    for i, command in enumerate(commands):
        for j, phrase in enumerate(command.phrases):
            yield f"commands.{i}.phrases.{j}", command, phrase


def _name_problems(commands: Sequence[CommandPhrases]) -> Iterator[tuple[str, str]]:
    first: dict[str, int] = {}
    for i, command in enumerate(commands):
        if command.name in first:
            at = first[command.name]
            yield f"commands.{i}.name", f"{command.name} is also the name of commands.{at}"
        first.setdefault(command.name, i)


def _slot_problems(commands: Sequence[CommandPhrases]) -> Iterator[tuple[str, str]]:
    for i, command in enumerate(commands):
        text = "".join(command.phrases)
        for name, values in command.slots.items():
            key = f"commands.{i}.slots.{name}"
            if name in KINDS and values != name:
                yield key, f"{name} is a slot of its own; give this one another name"
            elif f"{{{name}}}" not in text:
                yield key, f"no phrase has the slot {{{name}}}"
            if isinstance(values, str):
                continue
            for value, forms in values.items():
                for form in forms:
                    if set("{}") & set(form) or normalise_phrase(form).is_empty:
                        yield key, f"{form!r}, said for {value}, has no word that counts"


def _shared(key: str, first: Spelling, second: Spelling) -> str:
    if first.name != second.name:
        return f"{second.phrase!r} is also said for {first.name} ({key}: {first.phrase!r})"
    one, other = (", ".join(f"{n}={v}" for n, v in s.values) for s in (first, second))
    return f"{second.phrase!r} means both {one or 'no slot'} and {other or 'no slot'} ({key})"
