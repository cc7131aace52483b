from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.open_axis import open_axis
from agent.engine.ort import open_graph
from agent.errors import CompatibilityError
from tests.unit.engine.graphs import doubling_graph
from tests.unit.engine.offline_graphs import hotword_graph


def shape(data, name):
    graph = onnx.load_model_from_string(data).graph
    value = {v.name: v for v in [*graph.input, *graph.output]}[name]
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("columns", [1, 10, 127, 128, 300, 70_000])
def test_a_fixed_size_becomes_variable_and_nothing_else_changes(columns):
    data = hotword_graph(columns)
    opened = open_axis(data, "hotword", 1)
    assert len(opened) == len(data)
    assert not isinstance(shape(opened, "hotword")[1], int) or shape(opened, "hotword")[1] == 0
    assert shape(opened, "hotword")[0] == "n"
    assert shape(opened, "hw_embed") == [columns, "n", 10]
    onnx.checker.check_model(onnx.load_model_from_string(opened))


def test_the_runtime_takes_any_size_then():
    data = open_axis(open_axis(hotword_graph(10), "hotword", 1), "hw_embed", 0)
    graph = open_graph(data, name="m", threads=1)
    for columns in (1, 10, 33):
        ids = np.full((2, columns), 7, np.int32)
        assert graph.run({"hotword": ids})["hw_embed"][-1, 0, 7] == columns


def test_other_graphs_stay_as_they_are():
    data = doubling_graph()
    assert open_axis(data, "x", 0) == data
    assert open_axis(data, "nothing", 1) == data
    assert open_axis(data, "x", 9) == data
    assert open_axis(b"", "x", 0) == b""


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_cut_off_model_is_refused(cut):
    with pytest.raises(CompatibilityError, match="not a readable ONNX model"):
        open_axis(hotword_graph()[:-cut], "hotword", 1)


@pytest.mark.parametrize("data", [b"\x00\xff", b"\xff" * 50, b"no model at all"])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(CompatibilityError, match="not a readable ONNX model"):
        open_axis(data, "hotword", 1)


@given(st.binary(max_size=64))
def test_no_bytes_break_it(data):
    with suppress(CompatibilityError):
        assert len(open_axis(data, "hotword", 1)) == len(data)
