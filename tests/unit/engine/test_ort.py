from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from agent.engine.base import EngineSettings
from agent.engine.ort import (
    TensorSpec,
    available_providers,
    open_graph,
    open_model_graph,
    optimised_mark,
    require_finite,
    runtime_version,
    write_optimised,
)
from agent.errors import CompatibilityError, InferenceError
from tests.unit.engine.graphs import Files, doubling_graph


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


def folding_graph() -> bytes:
    """x f32[n,2] -> y = x + (1 + 1), whose sum of constants the runtime folds."""
    one = onnx.numpy_helper.from_array(np.float32([1, 1]), "one")
    make = onnx.helper.make_node
    nodes = [make("Add", ["one", "one"], ["two"]), make("Add", ["x", "two"], ["y"])]
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2])
        for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], [one])
    opset = onnx.helper.make_opsetid("", 14)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def test_an_optimised_graph_gives_the_same_and_is_known_by_its_mark(tmp_path):
    path = tmp_path / "optimised.onnx"
    write_optimised(folding_graph(), path, name="g")
    data = path.read_bytes() + optimised_mark()
    assert len(onnx.load_model_from_string(data).graph.node) == 1
    (entry,) = onnx.load_model_from_string(data).metadata_props
    assert (entry.key, entry.value) == ("funasr-agent.optimised-by", runtime_version())
    x = np.float32([[1, 2]])
    assert open_graph(data, name="g", threads=1).run({"x": x})["y"].tolist() == [[3, 4]]


def test_a_graph_that_the_runtime_refuses_is_not_optimised(tmp_path):
    with pytest.raises(CompatibilityError, match="m/model"):
        write_optimised(doubling_graph("NoSuchOperator"), tmp_path / "o", name="m/model")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_is_opened_as_the_settings_say():
    files = Files({}, {"model": doubling_graph()})
    graph = open_model_graph(files, "model", EngineSettings(threads=1, low_memory=True))
    assert graph.name == "test-model/model"
    assert graph.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[2, 2]]
    with pytest.raises(CompatibilityError, match="provider 'tpu' is unknown"):
        open_model_graph(files, "model", EngineSettings(provider="tpu"))


def test_low_memory_keeps_nothing_of_a_run():
    """A run of 160 MB in a process of its own: what stays resident behind it."""
    kept = {}
    for low_memory in (False, True):
        code = f"""
import numpy as np, psutil
from agent.engine.ort import open_graph
from tests.unit.engine.graphs import doubling_graph
graph = open_graph(doubling_graph(), name="g", threads=1, low_memory={low_memory})
x = np.ones((10_000_000, 2), np.float32)
before = psutil.Process().memory_info().rss
graph.run({{"x": x}})
print((psutil.Process().memory_info().rss - before) >> 20)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        kept[low_memory] = int(done.stdout)
    assert kept[True] < 20 < 60 < kept[False]


def test_a_watcher_hears_the_inputs_of_every_run_until_it_ends():
    graph = open_graph(doubling_graph(), name="g", threads=1)
    heard = []
    graph.watch(heard.append)
    x = np.ones((1, 2), np.float32)
    graph.run({"x": x})
    graph.watch(None)
    graph.run({"x": x})
    assert [list(feeds) for feeds in heard] == [["x"]]
