from __future__ import annotations

import os

import numpy as np
import pytest

from agent.engine.ort import available_providers, open_graph, runtime_version
from agent.errors import CompatibilityError
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
    graph.require(("x",), ("y",))
    with pytest.raises(CompatibilityError, match="input speech"):
        graph.require(("speech",), ())
    with pytest.raises(CompatibilityError, match="output logits"):
        graph.require((), ("logits",))


def test_a_free_axis_has_no_size():
    port = open_graph(doubling_graph(), name="g", threads=1).inputs["x"]
    assert port.size(1) == 2
    with pytest.raises(CompatibilityError, match="axis 0"):
        port.size(0)


def test_telemetry_is_off_and_the_cpu_is_there():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert runtime_version()
    assert any("CPU" in provider.upper() for provider in available_providers())
