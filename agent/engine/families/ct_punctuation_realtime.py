"""CT-Transformer for streams: marks for a segment, knowing the unfinished sentence before it.

Graph: inputs i32[1,L], text_lengths i32[1], vad_masks and sub_masks f32[1,1,L,L] -> logits
f32[1,L,marks]. `sub_masks` let no word see a later one in any layer but the last; there,
`vad_masks` hide a segment from the words of the one before, except for its last word. (So the
model was trained and so FunASR runs it in torch; funasr_onnx gives `vad_masks` to all layers.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.punctuation import (
    PERIOD,
    SENTENCE_ENDS,
    Punctuator,
    insert_marks,
    load_punctuator,
    mark_words,
    sentence_end,
    split_words,
)
from agent.types import Float32

FAMILY = "ct_punctuation_realtime"
TASK = "punctuation"
GRAPHS = ("model",)

CONTEXT_WORDS = 200
"""Words of an unfinished sentence that a stream remembers at most."""


class RealtimePunctuation:
    """Punctuates the segments of a stream (`agent.types.PunctuationModel`)."""

    def __init__(self, punctuator: Punctuator) -> None:
        self._punctuator = punctuator

    def punctuate(self, text: str) -> str:
        """A whole text with marks; it ends with the end of a sentence."""
        return RealtimeStream(self._punctuator).punctuate(text, is_last=True)

    def start_stream(self) -> RealtimeStream:
        """A stream that remembers the sentence that its last segment left open."""
        return RealtimeStream(self._punctuator)


class RealtimeStream:
    """One stream, segment by segment.

    FunASR decides the mark between two segments with the second one, and puts it at the head of
    that one's text. Here it is decided with the first, whose text ends with it.
    """

    def __init__(self, punctuator: Punctuator) -> None:
        self._punctuator = punctuator
        self._context: list[int] = []
        """Ids of the words since the last end of a sentence."""

    def punctuate(self, text: str, *, is_last: bool = False) -> str:
        """The next segment's text with marks; with `is_last` the end of a sentence at its end."""
        words = split_words(text)
        if not words:
            return text
        ids = self._context + self._punctuator.ids(words)
        marks = mark_words(ids, self._read)
        own = marks[len(self._context) :]
        self._context = ids[sentence_end(marks) :][-CONTEXT_WORDS:]
        if is_last and own[-1] not in SENTENCE_ENDS:
            own[-1] = PERIOD
        return insert_marks(text, words, own)

    def _read(self, ids: Sequence[int]) -> list[str]:
        masks = {"vad_masks": vad_mask(len(ids), len(self._context)), "sub_masks": _past(len(ids))}
        return self._punctuator.read(ids, masks)


def vad_mask(size: int, position: int) -> Float32:
    """f32[1,1,size,size]: the words before `position` don't see those from it on, except the
    last of them, whose mark depends on what follows."""
    mask = np.ones((size, size), np.float32)
    if 0 < position < size:
        mask[: position - 1, position:] = 0
    return mask[None, None]


def _past(size: int) -> Float32:
    """f32[1,1,size,size]: each word sees itself and what is before it."""
    return np.tril(np.ones((size, size), np.float32))[None, None]


def load(files: ModelFiles, settings: EngineSettings) -> RealtimePunctuation:
    """Load from verified bytes; config.yaml may be of either generation of FunASR."""
    mask = ort.TensorSpec("float", (None, None, None, None))
    masks = {"vad_masks": mask, "sub_masks": mask}
    return RealtimePunctuation(load_punctuator(files, settings, masks))
