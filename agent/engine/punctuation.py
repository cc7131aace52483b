"""What the punctuation families share: words, windows, and where the marks go.

The rules are those of FunASR's CT-Transformer: Han characters and runs of ASCII are words, a
window of 20 words is read with the unfinished sentence before it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agent.engine import ort
from agent.engine.base import EngineSettings, ModelFiles
from agent.engine.side_files import JIEBA_DICTIONARY, NEEDS_JIEBA, read_config, read_tokens, section
from agent.errors import CompatibilityError, ManifestError

Int32 = NDArray[np.int32]

PERIOD = "。"
SENTENCE_ENDS = frozenset("。？！")
COMMA = "，"

WINDOW_WORDS = 20
_COMMA_ENDS_AFTER = 200
"""Words without a sentence's end, above which a comma is made one."""
_LONGEST_RUN = 400
"""Words above which a run is taken as it is, so that no text costs more than its length."""
_FULL_WIDTH = {",": COMMA, ".": PERIOD, "?": "？", "!": "！"}
_PAUSE = "、"
_ASCII = {COMMA: ",", PERIOD: ".", "？": "?", "！": "!", "；": ";", "：": ":"}
"""Behind ASCII words; the pause has no such form, and FunASR leaves it as it is."""
_NO_MARK = ("_", "<unk>")
_MAX_MARKS = 64
_REMEMBERED_WORDS = 8192
_WORD = re.compile(r"(?:(?!\s)[\x00-\x7f])+|(?!\s)[^\x00-\x7f]")
_UNKNOWN = "<unk>"

ReadMarks = Callable[[Sequence[int]], list[str]]
"""Ids of a run of words -> the mark behind each, empty for none."""


@dataclass(frozen=True)
class Word:
    """A word and its place in the text."""

    text: str
    end: int
    """Index behind its last character."""


def split_words(text: str) -> list[Word]:
    """Every character that is no ASCII is a word, and so is every run of ASCII without spaces."""
    return [Word(match[0], match.end()) for match in _WORD.finditer(text)]


def mark_words(ids: Sequence[int], read: ReadMarks) -> list[str]:
    """The mark behind each word, empty for none.

    Each window is read together with what follows the last sentence that has ended before it.
    """
    decided: list[str] = []
    carried: list[int] = []
    for first in range(0, len(ids), WINDOW_WORDS):
        run = carried + list(ids[first : first + WINDOW_WORDS])
        marks = read(run)
        if first + WINDOW_WORDS >= len(ids):
            return decided + marks
        behind = sentence_end(marks)
        if not behind and len(run) > _COMMA_ENDS_AFTER:
            behind = _last(marks, COMMA)
            if behind:
                marks[behind - 1] = PERIOD
            elif len(run) > _LONGEST_RUN:
                behind = len(run)
        decided += marks[:behind]
        carried = run[behind:]
    return decided


def sentence_end(marks: Sequence[str]) -> int:
    """Index behind the last word that ends a sentence, 0 when none does.

    The last word does not count, since its mark may change with what follows, nor do the first
    two, as in FunASR.
    """
    return _last(marks, SENTENCE_ENDS)


def insert_marks(text: str, words: Sequence[Word], marks: Sequence[str]) -> str:
    """`text` with the marks behind its words; nothing else of it changes.

    A mark behind a word in ASCII is in ASCII too; behind a word that is a mark there is none.
    """
    parts: list[str] = []
    at = 0
    for word, mark in zip(words, marks, strict=True):
        parts += (text[at : word.end], _form(mark, word.text))
        at = word.end
    return "".join([*parts, text[at:]])


class Vocabulary:
    """Word -> id, in a few bytes a word: the published one has 272727."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """The last entry stands for unknown words unless there is a `<unk>`."""
        encoded = [token.encode() for token in tokens]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        self._ids = array("i", order)
        in_order = [encoded[i] for i in order]
        self._texts = b"".join(in_order)
        self._ends = array("I", np.cumsum([*map(len, in_order)], dtype=np.uint32).tobytes())
        self.unknown = len(encoded) - 1
        self.unknown = self._find(_UNKNOWN)
        self.id = lru_cache(_REMEMBERED_WORDS)(self._find)
        """Word -> its id, `unknown` when there is none."""

    def _find(self, word: str) -> int:
        wanted = word.encode(errors="replace")
        at = bisect_left(range(len(self._ids)), wanted, key=self._text)
        found = at < len(self._ids) and self._text(at) == wanted
        return self._ids[at] if found else self.unknown

    def _text(self, at: int) -> bytes:
        return self._texts[self._ends[at - 1] if at else 0 : self._ends[at]]


@dataclass(frozen=True)
class Punctuator:
    """A loaded graph with its vocabulary and its marks."""

    graph: ort.Graph
    vocabulary: Vocabulary
    marks: tuple[str, ...]
    """Mark of each class, empty for none."""

    def ids(self, words: Sequence[Word]) -> list[int]:
        """The words' ids."""
        return [self.vocabulary.id(word.text) for word in words]

    def read(self, ids: Sequence[int], masks: Mapping[str, ort.Array] | None = None) -> list[str]:
        """One run of the graph: the likeliest mark behind each word. Raises InferenceError."""
        feeds = {
            "inputs": np.asarray(ids, np.int32)[None],
            "text_lengths": ort.int32(len(ids)),
            **(masks or {}),
        }
        logits = self.graph.run(feeds)["logits"]
        ort.require_finite(logits, "logits", file=self.graph.name)
        return [self.marks[i] for i in logits[0].argmax(axis=-1)]


def load_punctuator(files: ModelFiles, settings: EngineSettings, masks: ort.Specs) -> Punctuator:
    """Load from verified bytes; `masks` are the inputs beside the words and their number.

    Raises ManifestError for unfit side files, CompatibilityError for an unfit graph.
    """
    if files.has(JIEBA_DICTIONARY):
        raise CompatibilityError(NEEDS_JIEBA, file=JIEBA_DICTIONARY)
    marks = _read_marks(files)
    vocabulary = Vocabulary(read_tokens(files))
    graph = ort.open_model_graph(files, "model", settings)
    graph.require(
        {
            "inputs": ort.TensorSpec("int32", (None, None)),
            "text_lengths": ort.TensorSpec("int32", (None,)),
            **masks,
        },
        {"logits": ort.TensorSpec("float", (None, None, len(marks)))},
    )
    return Punctuator(graph, vocabulary, marks)


def _read_marks(files: ModelFiles) -> tuple[str, ...]:
    """`punc_list` of either generation of config.yaml. Raises ManifestError."""
    config = read_config(files)
    listed = section(config, "model_conf").get("punc_list") or config.get("punc_list")
    marks = [str(mark) for mark in listed] if isinstance(listed, list) else []
    if not 2 <= len(marks) <= _MAX_MARKS or marks != listed:
        raise ManifestError(
            "punc_list must list the model's marks (such as <unk>, _, ，, 。, ？, 、)",
            file="config.yaml",
        )
    return tuple("" if mark in _NO_MARK else _FULL_WIDTH.get(mark, mark) for mark in marks)


def _form(mark: str, word: str) -> str:
    if word[-1] in _ASCII or word[-1] in _FULL_WIDTH or word[-1] == _PAUSE:
        return ""
    return _ASCII.get(mark, mark) if word[0].isascii() else mark


def _last(marks: Sequence[str], wanted: str | frozenset[str]) -> int:
    for i in range(len(marks) - 2, 1, -1):
        if marks[i] and marks[i] in wanted:
            return i + 1
    return 0
