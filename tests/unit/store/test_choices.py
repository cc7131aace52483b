"""The file of a choice: what was written is read again, anything else counts as no choice."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.choices import SCHEMA, Attempt, ChoiceBook, ProviderChoice
from agent.store.disk import Disk
from agent.store.refs import ModelRef
from agent.store.trial import TrialResult

REF = ModelRef("tiny", "0123abcd")
REFUSED = TrialResult(code="golden_mismatch", level="function", message="它什么也听不见")
PASSED = TrialResult(0.1, 0.02, 4.0, 5.5, {"cuda": 7, "cpu": 1}, ("MatMul (1)",))
CHOICE = ProviderChoice(
    variant="int8",
    provider="cuda",
    derived="fp32-from-int8",
    reasons=("fp16-from-int8 on cuda was refused: 它什么也听不见", "passed"),
    attempts=(
        Attempt("int8", "cuda", "fp16-from-int8", REFUSED),
        Attempt("int8", "cuda", "fp32-from-int8", PASSED),
        Attempt("int8", "cpu", "", PASSED),
    ),
    fingerprint={"agent": "1", "wanted": "auto"},
    decided="2026-05-01T12:00:00+00:00",
)
TREE: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(CHOICE)}))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of the tree, as its container and key."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list):
            yield from nodes(value)


PLACES = len(list(nodes(TREE)))


@pytest.fixture
def book(tmp_path: Path) -> ChoiceBook:
    return ChoiceBook(tmp_path / "choices", Disk())


def load(data: bytes) -> ProviderChoice | None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{REF}.json").write_bytes(data)
        return ChoiceBook(Path(folder), Disk()).load(REF)


def test_a_choice_is_read_as_it_was_written(book: ChoiceBook, tmp_path: Path) -> None:
    book.save(REF, CHOICE)
    assert book.load(REF) == CHOICE
    assert [path.name for path in (tmp_path / "choices").iterdir()] == ["tiny@0123abcd.json"]
    refused = replace(CHOICE, variant="", provider="", derived="", attempts=CHOICE.attempts[:1])
    book.save(REF, refused)
    assert book.load(REF) == refused
    assert refused.chosen is None


def test_a_choice_is_of_one_manifest(book: ChoiceBook) -> None:
    book.save(REF, CHOICE)
    assert book.load(ModelRef("tiny", "ffffffff")) is None


def test_a_forgotten_choice_is_none(book: ChoiceBook) -> None:
    book.save(REF, CHOICE)
    book.forget(REF)
    book.forget(REF)
    assert book.load(REF) is None


def test_the_chosen_attempt_is_found_by_variant_provider_and_derivation() -> None:
    assert CHOICE.chosen is CHOICE.attempts[1]
    assert replace(CHOICE, derived="").chosen is None
    assert [attempt.name for attempt in CHOICE.attempts] == [
        "fp16-from-int8 on cuda",
        "fp32-from-int8 on cuda",
        "int8 on cpu",
    ]


def test_a_truncated_file_is_no_choice() -> None:
    data = json.dumps(TREE).encode()
    assert load(data) == CHOICE
    for size in range(0, len(data), 7):
        assert load(data[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({**TREE, "schema": 2}).encode(),
        json.dumps({**TREE, "attempts": []}).encode(),
        json.dumps({**TREE, "variant": "", "attempts": []}).encode(),
        json.dumps({**TREE, "derived": "fp16-from-int8"}).encode(),
        json.dumps({**TREE, "variant": "other"}).encode(),
        json.dumps([TREE]).encode(),
        b"[" * 200_000,
        b'{"schema":' * 100_000,
        b"9" * 10_000,
        b"\xff\xfe",
        b"\x00" * 1000,
    ],
    ids=["schema", "nothing", "no attempt", "a refused one", "an unknown one", "a list", "brackets",
         "braces", "a number", "no text", "zeros"],
)  # fmt: skip
def test_a_damaged_file_is_no_choice(data: bytes) -> None:
    assert load(data) is None


def test_a_file_that_is_none_is_no_choice(book: ChoiceBook, tmp_path: Path) -> None:
    (tmp_path / "choices" / f"{REF}.json").mkdir(parents=True)
    assert book.load(REF) is None
    (tmp_path / "file").write_text("")
    assert ChoiceBook(tmp_path / "file", Disk()).load(REF) is None


@settings(max_examples=150, deadline=None)
@given(tree=JSON)
def test_no_tree_raises(tree: Any) -> None:
    assert load(json.dumps(tree).encode()) is None


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, PLACES - 1), value=JSON, drop=st.booleans())
def test_a_tree_that_was_changed_is_a_sound_choice_or_none(
    place: int, value: Any, drop: bool
) -> None:
    tree = copy.deepcopy(TREE)
    container, key = list(nodes(tree))[place]
    if drop:
        del container[key]
    else:
        container[key] = value
    choice = load(json.dumps(tree).encode())
    if choice is None:
        return
    json.dumps(choice.to_json())
    assert choice.attempts
    if choice.variant:
        assert choice.chosen is not None
        assert choice.chosen.result.passed
