"""Text outside the vocabulary: what must give no text, in Mandarin (as pinyin) and in English."""

# ruff: noqa: SIM905

from __future__ import annotations

import functools
import random
from pathlib import Path

from . import vocabulary

_COMMON = """
i you he she it we they the a this that these those my your his her our their is are was were be
been have has had do does did will would can could should may might must not and or but if because
when where who what which how why so then than as at by for from in into of on off to up down out
about over under with without one two all some any no more most other such only very just also now
here there please go going come coming get take make see look want like know think say said tell
give find use work call try ask need feel become leave put mean keep let begin seem help show hear
play run move live believe bring happen write sit stand lose pay meet include continue set learn
change lead understand watch follow stop create speak read spend grow open walk win teach offer
remember consider appear buy serve die send build stay fall cut reach remain good new first last
long great little own old right big high different small large next early young important few
public bad same able time year people way day man thing woman life child world school state family
student group country problem hand part place case week company system program question work
government number night point home water room mother area money story fact month lot study book
eye job word business issue side kind head house service friend father power hour game line end
member law car city community name president team minute idea body back parent face others level
office door health person art war history party result morning reason research girl guy moment air
teacher force education light
""".split()
_WORD_LISTS = (Path("/usr/share/dict/american-english"), Path("/usr/share/dict/words"))


@functools.cache
def _rare_english() -> list[str]:
    """Words of the machine's word list, where there is one."""
    for path in _WORD_LISTS:
        if path.exists():
            words = path.read_text("utf-8", errors="ignore").split()
            return [w for w in words if w.isascii() and w.isalpha() and w.islower() and len(w) > 3]
    return vocabulary.FOREIGN_WORDS


@functools.cache
def _mandarin() -> tuple[list[str], list[float]]:
    """Words with weights from jieba's dictionary, without those made of vocabulary only."""
    import jieba

    words: list[str] = []
    weights: list[float] = []
    known = set(vocabulary.PINYIN)
    with jieba.get_dict_file() as stream:
        for line in stream.read().decode("utf-8").splitlines():
            word, count = line.split()[:2]
            if int(count) >= 50 and len(word) <= 4 and not set(word) <= known:
                words.append(word)
                weights.append(int(count) ** 0.6)
    return words, weights


def english(rng: random.Random) -> str:
    """Two to ten words that no command is made of as a whole."""
    while True:
        words = [
            rng.choice(_COMMON) if rng.random() < 0.6 else rng.choice(_rare_english())
            for _ in range(rng.randint(2, 10))
        ]
        unknown = sum(word not in vocabulary.ENGLISH_WORDS for word in words)
        if unknown >= max(2, len(words) // 2):
            return " ".join(words)


def mandarin(rng: random.Random) -> str:
    """Two to eight words of the language at large, in pinyin; numbers and known words may occur."""
    from pypinyin import Style, lazy_pinyin

    words, weights = _mandarin()
    chosen = rng.choices(words, weights, k=rng.randint(2, 7))
    if rng.random() < 0.3:
        chosen.insert(rng.randrange(len(chosen)), rng.choice(vocabulary.WORDS_ZH))
    return " ".join(
        "".join(lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True))
        for word in chosen
    )
