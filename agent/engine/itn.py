"""Inverse text normalisation by wetext's grammars: numbers, dates and money as they are written.

The grammars are finite-state transducers in wetext's wheel. They are read directly: importing
wetext itself loads all of its grammars (three times the memory and ten times the time).
"""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_log = logging.getLogger(__name__)

CACHED_PIECES = 512
LONGEST_PIECE = 500
"""Characters without a mark; a longer piece is left as it is."""

Transduce = Callable[[str], str]

_PIECE = re.compile(r"[\w'’&-][\w\s'’&-]*")
"""What lies between marks. The grammars know no quotes, and take marks for the ends of words."""
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_KANA = re.compile(r"[぀-ヿ]")
_TOKEN = re.compile(r' *(\w+) \{((?: \w+: "[^"]*")+) \} *')
_FIELD = re.compile(r' (\w+): "([^"]*)"')
_LITERAL = ("char", "word")
_ORDER: Mapping[str, tuple[str, ...]] = {
    "date": ("year", "month", "day", "preserve_order"),
    "fraction": ("sign", "numerator", "denominator"),
    "measure": ("numerator", "denominator", "value", "units"),
    "money": ("currency", "value", "decimal", "quantity"),
    "time": ("hour", "minute", "second", "noon", "zone"),
    "telephone": ("country_code", "number_part"),
    "electronic": ("username", "domain", "protocol"),
}
"""Kind of token -> the order in which its fields are written."""


@dataclass(frozen=True)
class Grammar:
    """The two transducers of a language."""

    tag: Transduce
    """Text to tokens (`measure { value: "三十块" }`)."""
    verbalize: Transduce
    """A token to text."""
    joint: str
    """What parts words: nothing in Han, a space in Latin script."""


LoadGrammar = Callable[[str], Grammar]
"""`zh` or `en` -> its grammar. Raises ImportError, OSError or RuntimeError."""


class InverseNormalizer:
    """Rewrites recognised text; shared by all streams. Never loses text: what can't be rewritten
    stays as it is."""

    def __init__(self, load: LoadGrammar | None = None) -> None:
        self.problem = "" if load or _folder() else "the package wetext is not installed"
        """Why nothing is rewritten; empty while it works."""
        self._load = load or load_grammar
        self._grammars: dict[str, Grammar] = {}
        self._lock = threading.Lock()
        self._rewritten = lru_cache(CACHED_PIECES)(self._rewrite)

    def __call__(self, text: str, language: str = "") -> str:
        """The text as it is written; marks stay where they are.

        `language` is what the recogniser or the client says; Chinese and English are told apart
        by their script, text in any other language is left alone.
        """
        if self.problem or not _is_known(language) or _KANA.search(text):
            return text
        parts: list[str] = []
        at = 0
        for match in _PIECE.finditer(text):
            piece = match[0].rstrip()
            behind = match.start() + len(piece)
            mark = text[behind : behind + 1]
            parts += (text[at : match.start()], _without_double(self._piece(piece), mark))
            at = behind
        return "".join([*parts, text[at:]])

    def _piece(self, piece: str) -> str:
        if len(piece) > LONGEST_PIECE or not any(char.isalpha() for char in piece):
            return piece
        try:
            with self._lock:
                return self._rewritten(piece)
        except (ImportError, OSError) as error:
            self.problem = f"wetext can't be loaded: {error}"
            _log.warning("numbers stay as they are spoken: %s", self.problem)
        except (RuntimeError, ValueError) as error:
            _log.warning("a text of %d characters was not rewritten: %s", len(piece), error)
            _log.debug("the text: %r", piece)
        return piece

    def _rewrite(self, piece: str) -> str:
        language = "zh" if _HAN.search(piece) else "en"
        if language not in self._grammars:
            self._grammars[language] = self._load(language)
        return _verbalized(piece, self._grammars[language])


def load_grammar(language: str) -> Grammar:
    """A grammar of wetext's wheel. Raises ImportError, OSError or RuntimeError."""
    import kaldifst

    folder = _folder()
    if folder is None:
        raise ImportError("the package wetext is not installed")
    graphs = [folder / language / "itn" / f"{name}.fst" for name in ("tagger", "verbalizer")]
    for graph in graphs:
        graph.stat()
    tag, verbalize = (kaldifst.TextNormalizer(str(graph)) for graph in graphs)
    return Grammar(tag, verbalize, " " if language == "en" else "")


def _folder() -> Path | None:
    """Where wetext's grammars lie; None when they, or what reads them, are not installed."""
    try:
        specs = [importlib.util.find_spec(name) for name in ("wetext", "kaldifst")]
    except (ImportError, ValueError):
        return None
    places = specs[0].submodule_search_locations if specs[0] and specs[1] else None
    return Path(next(iter(places))) / "fsts" if places else None


def _is_known(language: str) -> bool:
    """Chinese, English, or not said."""
    return re.split("[-_]", language.strip().lower())[0] in ("", "auto", "zh", "en", "yue")


def _verbalized(piece: str, grammar: Grammar) -> str:
    """Raises ValueError when the tokens are not as the grammars write them."""
    tokens = _tokens(grammar.tag(piece))
    if all(kind in _LITERAL for kind, _ in tokens):
        return piece
    written, after_number = "", False
    for kind, fields in tokens:
        if kind in _LITERAL:
            text, is_number = fields.get("value", ""), False
        else:
            text, is_number = grammar.verbalize(_ordered(kind, fields)).strip(), True
        touches = after_number and is_number and _runs_together(written, text)
        written += (" " if touches else grammar.joint if written else "") + text
        after_number = is_number
    return written.strip()


def _tokens(tagged: str) -> list[tuple[str, dict[str, str]]]:
    tokens, at = [], 0
    while at < len(tagged):
        match = _TOKEN.match(tagged, at)
        if match is None:
            raise ValueError("the tokens of its grammar can't be read")
        tokens.append((match[1], dict(_FIELD.findall(match[2]))))
        at = match.end()
    if not tokens:
        raise ValueError("its grammar found no tokens")
    return tokens


def _ordered(kind: str, fields: Mapping[str, str]) -> str:
    first = () if fields.get("preserve_order") == "true" else _ORDER.get(kind, ())
    names = [name for name in first if name in fields]
    names += [name for name in fields if name not in names]
    return f"{kind} {{" + "".join(f' {name}: "{fields[name]}"' for name in names) + " }"


def _runs_together(left: str, right: str) -> bool:
    """Whether two numbers without a space between them would read as one."""
    return all(text and text.isascii() and text != " " for text in (left[-1:], right[:1]))


def _without_double(piece: str, mark: str) -> str:
    """`p.m` rather than `p.m.` before a full stop."""
    return piece[:-1] if mark == "." and piece.endswith(".") else piece
