"""A text that its own model is not sure of is none."""

from __future__ import annotations

import numpy as np
import pytest

from agent.engine.rejection import KEY, NEVER, Rejection
from agent.errors import ManifestError

SURE, UNSURE = [9.0, 0.0, 0.0], [0.3, 0.2, 0.1]
POSITIONS = np.array([0, 1])


def logits(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_the_mean_over_the_tokens_of_the_text_decides() -> None:
    half = Rejection(0.5)
    assert not half.rejects(logits(SURE, SURE), POSITIONS)
    assert not half.rejects(logits(SURE, UNSURE), POSITIONS)
    assert half.rejects(logits(UNSURE, UNSURE), POSITIONS)
    assert half.rejects(logits(SURE, UNSURE, SURE), np.array([1]))
    assert not half.rejects(logits(UNSURE), np.array([], int))


def test_log_probabilities_are_read_as_logits_are() -> None:
    rows = logits([2.0, 1.0, 0.0], [1.0, 1.0, 1.0])
    normalised = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    mean = (np.exp(normalised[0]).max() + 1 / 3) / 2
    for values in (rows, rows + 50, normalised):
        assert Rejection(mean + 0.01).rejects(values, POSITIONS)
        assert not Rejection(mean - 0.01).rejects(values, POSITIONS)


def test_without_the_key_nothing_is_rejected() -> None:
    assert Rejection.from_config({}) == NEVER
    assert not NEVER.rejects(logits(UNSURE, UNSURE), POSITIONS)


@pytest.mark.parametrize("value", ["0.5", True, -0.1, 1, 7.0, float("nan"), None])
def test_what_is_no_probability_is_refused(value: object) -> None:
    with pytest.raises(ManifestError, match=f"{KEY}.min_probability is") as caught:
        Rejection.from_config({KEY: {"min_probability": value}})
    assert caught.value.file == "config.yaml"
