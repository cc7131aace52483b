from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.greedy import Run, best_ids, collapse
from agent.errors import InferenceError


def test_runs_are_joined_and_blanks_dropped():
    ids = np.array([0, 3, 3, 0, 3, 5, 5, 5, 0])
    assert collapse(ids) == [Run(3, 1, 3), Run(3, 4, 5), Run(5, 5, 8)]


@pytest.mark.parametrize("ids", [[], [0], [0, 0, 0]])
def test_a_path_of_blanks_reads_nothing(ids):
    assert collapse(np.array(ids, np.int64)) == []


@given(st.lists(st.integers(0, 3)))
def test_a_path_reads_as_ctc_says(path):
    expected = [key for key, _ in groupby(path) if key]
    assert [run.id for run in collapse(np.array(path, np.int64))] == expected


@given(st.lists(st.integers(0, 3)))
def test_runs_lie_where_the_path_has_them(path):
    for run in collapse(np.array(path, np.int64)):
        assert set(path[run.first : run.behind]) == {run.id}


def test_the_best_class_of_each_frame():
    assert best_ids(np.array([[0.1, 0.9], [2, -1]], np.float32), "x", file="m").tolist() == [1, 0]


def test_nan_in_one_frame_is_told():
    logits = np.zeros((5, 4), np.float32)
    logits[3, 1] = np.nan
    with pytest.raises(InferenceError, match="m/model: its output logits is not a number"):
        best_ids(logits, "logits", file="m/model")


def test_no_frames_have_no_ids():
    assert best_ids(np.zeros((0, 4), np.float32), "x", file="m").tolist() == []
