from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine.cif import CifState

DIM = 3


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, DIM)).astype(np.float32)


def test_a_token_is_the_weighted_sum_of_its_frames():
    hidden = frames(3)
    fired = CifState(DIM, 1.0, 0.45).fire(hidden, np.float32([0.5, 0.25, 0.5]), is_last=False)
    expected = 0.5 * hidden[0] + 0.25 * hidden[1] + 0.25 * hidden[2]
    assert np.allclose(fired, expected[None], atol=1e-6)


def test_the_tail_lets_an_almost_complete_token_fire():
    weights = np.float32([0.6])
    assert len(CifState(DIM, 1.0, 0.45).fire(frames(1), weights, is_last=True)) == 1
    assert len(CifState(DIM, 1.0, 0.45).fire(frames(1), weights, is_last=False)) == 0
    assert len(CifState(DIM, 1.0, 0.3).fire(frames(1), weights, is_last=True)) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 0.875, width=32), min_size=1, max_size=30), st.integers(0, 30))
def test_tokens_do_not_depend_on_where_hops_end(weights, cut):
    alphas, hidden = np.float32(weights), frames(len(weights))
    total = np.cumsum(alphas.astype(np.float64))
    if np.any(np.abs(total - np.round(total)) < 1e-4):
        return
    whole = CifState(DIM, 1.0, 0.45).fire(hidden, alphas, is_last=False)
    state = CifState(DIM, 1.0, 0.45)
    parts = [
        state.fire(hidden[:cut], alphas[:cut], is_last=False),
        state.fire(hidden[cut:], alphas[cut:], is_last=False),
    ]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-4)
