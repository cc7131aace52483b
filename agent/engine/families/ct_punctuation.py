"""CT-Transformer: marks for a whole text.

Graph: inputs i32[B,L], text_lengths i32[B] -> logits f32[B,L,marks].
"""

from __future__ import annotations

from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.punctuation import (
    PERIOD,
    SENTENCE_ENDS,
    Punctuator,
    insert_marks,
    load_punctuator,
    mark_words,
    split_words,
)

FAMILY = "ct_punctuation"
TASK = "punctuation"
GRAPHS = ("model",)


class CtPunctuation:
    """Punctuates each text on its own (`agent.types.PunctuationModel`)."""

    def __init__(self, punctuator: Punctuator) -> None:
        self._punctuator = punctuator

    def punctuate(self, text: str) -> str:
        """The text with marks; it ends with the end of a sentence."""
        words = split_words(text)
        if not words:
            return text
        marks = mark_words(self._punctuator.ids(words), self._punctuator.read)
        if marks[-1] not in SENTENCE_ENDS:
            marks[-1] = PERIOD
        return insert_marks(text, words, marks)

    def start_stream(self) -> CtPunctuation:
        """Nothing is kept from one text to the next."""
        return self


def load(files: ModelFiles, settings: EngineSettings) -> CtPunctuation:
    """Load from verified bytes; config.yaml may be of either generation of FunASR."""
    return CtPunctuation(load_punctuator(files, settings, {}))
