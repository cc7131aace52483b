"""Hotwords: how words become ids, and what lists that are empty, unknown or long do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.engine.phrases import SegDict, Segmenter
from agent.engine.side_files import read_tokens
from tests.parity.clips import Clip, some
from tests.parity.ledger import Ledger, Verdict, amount, verdict
from tests.parity.ours import Exported, watched
from tests.parity.test_offline import (
    PART,
    SEACO,
    TOLERANCE,
    WITH_HOTWORDS,
    Ours,
    differing,
    distance,
    hotwords,
)

MANY = 60
"""More than the 50 hotwords that torch's SeACo keeps for a clip."""
KEPT = 50
_SOME_S = 30


@pytest.mark.parametrize("name", WITH_HOTWORDS)
def test_words_become_the_ids_of_torch(
    name: str,
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    ledger: Ledger,
) -> None:
    files, theirs = exported(name), original(name)
    tokens = read_tokens(files)
    segmenter = Segmenter(tokens, SegDict(files.read("seg_dict")))

    def in_torch(words: list[str]) -> list[list[int]]:
        parts = theirs.auto.kwargs
        return list(
            theirs.model.generate_hotwords_list(
                " ".join(words), tokenizer=parts["tokenizer"], frontend=parts["frontend"]
            )
        )

    words = [*hotwords(files), *_pairs(tokens)]
    found, wanted = segmenter.segment(words).rows, in_torch(words)[:-1]
    changed = sum(list(a) != list(b) for a, b in zip(found, wanted, strict=True))
    ledger.add(
        PART, f"{name}: ids of hotwords, Chinese and by seg_dict English", "torch",
        f"{len(words)} words", f"{changed} words", not changed,
    )  # fmt: skip
    odd = [words[0] + "\N{SNOWMAN}", "\N{SNOWMAN}", words[3] + words[0]]
    alone = [[list(row) for row in segmenter.segment([word]).rows] for word in odd]
    changed = sum(rows != in_torch([word])[:-1] for rows, word in zip(alone, odd, strict=True))
    ledger.add(
        PART, f"{name}: ids of words that are not in the vocabulary as they are", "torch",
        f"{len(odd)} words", f"{changed} words", Verdict.EXPLAINED if changed else Verdict.EQUAL,
        "torch biases to <unk>; the agent leaves out what the model has no token for and says so, "
        "and splits a word that mixes Chinese and English",
    )  # fmt: skip


@pytest.mark.parametrize("name", WITH_HOTWORDS)
def test_no_hotwords(
    name: str,
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    torch_clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    theirs = original(name)
    clips = some(torch_clips, _SOME_S)
    empty, changed, total = 0.0, 0, 0
    with watched() as outputs:
        ours = Ours(exported(name), threads, outputs)
        for clip in clips:
            found = ours.read(clip).logits
            asked = theirs.read(clip.wave, ours.frontend, hotword="").logits
            empty = max(empty, distance(found, asked))
            unasked = theirs.read(clip.wave, ours.frontend, hotword=None).logits
            changed += differing(found, unasked)
            total += len(unasked)
    ledger.add(
        PART, f"{name} fp32: log-probabilities, an empty list of hotwords", "torch", amount(clips),
        f"{empty:.1e}", empty <= TOLERANCE,
    )  # fmt: skip
    ledger.add(
        PART, f"{name} fp32: tokens, no list at all", "torch", amount(clips),
        f"{changed} of {total} tokens", verdict(not changed or name == SEACO, changed),
        "torch then leaves out the bias decoder, which the exported graph always has and which is "
        "trained to answer 'no bias' to an empty list" if changed else "",
    )  # fmt: skip


def test_more_hotwords_than_torch_keeps(
    exported: Callable[..., Exported],
    original: Callable[[str], Any],
    torch_clips: list[Clip],
    threads: int,
    ledger: Ledger,
) -> None:
    files, theirs = exported(SEACO), original(SEACO)
    clips = some(torch_clips, _SOME_S)
    words = _pairs(read_tokens(files))
    changed, total, largest = 0, 0, 0.0
    with watched() as outputs:
        ours = Ours(files, threads, outputs)
        for clip in clips:
            few = words[: KEPT - 1]
            found = ours.read(clip, few).logits
            wanted = theirs.read(clip.wave, ours.frontend, hotword=" ".join(few)).logits
            largest = max(largest, distance(found, wanted))
            found = ours.read(clip, words).logits
            wanted = theirs.read(clip.wave, ours.frontend, hotword=" ".join(words)).logits
            changed += differing(found, wanted)
            total += len(wanted)
    ledger.add(
        PART, f"{SEACO} fp32: log-probabilities, {KEPT - 1} hotwords", "torch", amount(clips),
        f"{largest:.1e}", largest <= TOLERANCE,
    )  # fmt: skip
    ledger.add(
        PART, f"{SEACO} fp32: tokens, {MANY} hotwords", "torch", amount(clips),
        f"{changed} of {total} tokens", verdict(changed < total, changed),
        f"torch keeps the {KEPT} words that fit the clip best; the exported graph weighs all"
        if changed else "",
    )  # fmt: skip


def _pairs(tokens: tuple[str, ...]) -> list[str]:
    """MANY words of two Han characters."""
    han = [token for token in tokens if len(token) == 1 and not token.isascii()]
    return [han[i] + han[i + 1] for i in range(MANY)]
