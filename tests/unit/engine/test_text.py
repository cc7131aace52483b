from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.text import SPECIAL_TOKENS, pieces_to_text, text_rule, tokens_to_text

TOKENS = st.lists(
    st.sampled_from(["你", "好", "turn", "on", "hel@@", "lo", "the", "3", "<unk>", "</s>"])
)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        (["打", "开", "灯"], "打开灯"),
        (["turn", "on", "the", "light"], "turn on the light"),
        (["hel@@", "lo", "w@@", "or@@", "ld"], "hello world"),
        (["打", "开", "light", "好"], "打开light好"),
        (["u", "s", "a", "today"], "USA today"),
        (["i", "have", "a", "dog"], "i have a dog"),
        (["<s>", "你", "<unk>", "好", "</s>"], "你好"),
        (["hel@@", "你"], "hel你"),
        (["hel@@"], "hel"),
    ],
)
def test_tokens_become_text(tokens, text):
    assert tokens_to_text(tokens) == text


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([], ""),
        (["▁"], ""),
        (["▁hel", "lo", "▁world", "."], "hello world."),
        (["hel", "lo"], "hello"),
        (["你", "好", "▁", "▁the"], "你好 the"),
        (["▁it", "'", "s", "<unk>", "</s>"], "it's"),
        (["▁안녕", "하세요", "▁"], "안녕하세요"),
    ],
)
def test_pieces_become_text(pieces, text):
    assert pieces_to_text(pieces) == text


def test_a_vocabulary_tells_how_its_tokens_become_text():
    assert text_rule(["<unk>", "▁the", "s"]) is pieces_to_text
    assert text_rule(["<blank>", "你", "hel@@"]) is tokens_to_text


@given(TOKENS)
def test_special_tokens_leave_no_trace(tokens):
    assert tokens_to_text(tokens) == tokens_to_text([t for t in tokens if t not in SPECIAL_TOKENS])


@given(TOKENS, TOKENS)
def test_more_tokens_only_lengthen_the_text(tokens, more):
    assert tokens_to_text(tokens + more).startswith(tokens_to_text(tokens))


@given(TOKENS)
def test_text_has_no_loose_space(tokens):
    text = tokens_to_text(tokens)
    assert text == text.strip()
    assert "  " not in text
    assert "@@" not in text
