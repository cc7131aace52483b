"""The whole embedded vocabulary as `commands:`, to count what is taken for a command."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.voice_commands.matcher import CommandMatcher
from agent.voice_commands.phrases import SlotValues
from scripts.train import vocabulary


@dataclass(frozen=True)
class Phrase:
    """One phrase as a command of its own (`agent.voice_commands.phrases.CommandPhrases`)."""

    name: str
    phrases: Sequence[str]
    slots: Mapping[str, SlotValues] = field(default_factory=dict)
    max_edits: int | None = None


@functools.cache
def matcher() -> CommandMatcher:
    """Every command and every phrase with a slot, one-syllable words included."""
    slots = [s.replace("{N}", "{number}").replace("{D}", "{digits}") for s in vocabulary.SLOTS_ZH]
    said = [*vocabulary.COMMANDS_ZH, *vocabulary.COMMANDS_EN, *slots]
    return CommandMatcher(Phrase(f"command-{i}", [text]) for i, text in enumerate(said))


def raised(finals: Sequence[str]) -> list[str]:
    """Those finals of a recording that a box with these commands acts on."""
    return [text for text in finals if text and matcher().match(text).command is not None]
