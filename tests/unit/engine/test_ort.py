from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from agent.engine.ort import (
    TensorSpec,
    available_providers,
    open_graph,
    require_finite,
    runtime_version,
)
from agent.errors import CompatibilityError, InferenceError
from tests.unit.engine.graphs import doubling_graph


def test_graph_runs_by_name():
    graph = open_graph(doubling_graph(), name="g", threads=1)
    assert graph.run({"x": np.float32([[1, 2]])})["y"].tolist() == [[2, 4]]
    assert graph.inputs["x"].shape == ("n", 2)


@pytest.mark.parametrize("data", [b"", b"not a graph", doubling_graph()[:40]])
def test_damaged_graph_is_refused_by_name(data):
    with pytest.raises(CompatibilityError, match="m/decoder"):
        open_graph(data, name="m/decoder", threads=1)


def test_unknown_operator_is_refused():
    with pytest.raises(CompatibilityError):
        open_graph(doubling_graph("NoSuchOperator"), name="g", threads=1)


def test_missing_inputs_and_outputs_are_named():
    graph = open_graph(doubling_graph(), name="g", threads=1)
    graph.require({"x": TensorSpec("float", (None, 2))}, {"y": TensorSpec()})
    with pytest.raises(CompatibilityError, match=r"no input speech.*; the graph has no output"):
        graph.require({"speech": TensorSpec()}, {"logits": TensorSpec()})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (TensorSpec("int32"), r"the input x is tensor\(float\), must be tensor\(int32\)"),
        (TensorSpec("float", (None, 3)), r"the input x has the shape \[\?,2\], must be \[\?,3\]"),
        (TensorSpec(None, (None,)), r"has the shape \[\?,2\], must be \[\?\]"),
    ],
)
def test_an_input_of_another_kind_is_refused(spec, reason):
    graph = open_graph(doubling_graph(), name="g", threads=1)
    with pytest.raises(CompatibilityError, match=reason):
        graph.require({"x": spec}, {})


def test_an_axis_that_the_graph_leaves_open_takes_any_size():
    graph = open_graph(doubling_graph(), name="g", threads=1)
    graph.require({"x": TensorSpec("float", (7, 2))}, {})


def test_outputs_that_are_not_numbers_are_told():
    require_finite(np.float32([-np.inf, 1]), "logits", file="m")
    require_finite(np.zeros((0, 3), np.float32), "logits", file="m")
    with pytest.raises(InferenceError, match=r"m: its output logits is not a number"):
        require_finite(np.float32([1, np.nan]), "logits", file="m")


def test_the_serialised_graph_is_not_kept():
    """A graph has hundreds of megabytes, and the runtime holds its own copy."""
    data = doubling_graph()
    before = sys.getrefcount(data)
    graph = open_graph(data, name="g", threads=1)
    assert sys.getrefcount(data) == before
    assert graph.run({"x": np.float32([[1, 2]])})["y"].tolist() == [[2, 4]]


def test_a_free_axis_has_no_size():
    port = open_graph(doubling_graph(), name="g", threads=1).inputs["x"]
    assert port.size(1) == 2
    with pytest.raises(CompatibilityError, match="axis 0"):
        port.size(0)


def test_telemetry_is_off_and_the_cpu_is_there():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert runtime_version()
    assert any("CPU" in provider.upper() for provider in available_providers())
