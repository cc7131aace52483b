"""Small graphs and files for the tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnx import TensorProto, helper

SHARED = Path(__file__).resolve().parents[4] / "shared"


class Files:
    """A fake of `agent.engine.base.ModelFiles`."""

    model_id = "test-model"

    def __init__(self, side: Mapping[str, bytes], graphs: Mapping[str, bytes]) -> None:
        self._side, self._graphs = side, graphs

    def read(self, name: str) -> bytes:
        return self._side[name]

    def has(self, name: str) -> bool:
        return name in self._side

    def graph(self, role: str) -> bytes:
        return self._graphs[role]


def doubling_graph(op: str = "Add") -> bytes:
    """x f32[n,2] -> y = x + x, or another operator of two inputs."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node(op, ["x", "x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 14)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def mvn(dim: int, shift: float = 0.5, scale: float = 2.0) -> bytes:
    """am.mvn with constant vectors."""

    def vector(value: float) -> str:
        return " ".join([str(value)] * dim)

    return (
        f"<Nnet>\n<Splice> {dim} {dim}\n[ 0 ]\n<AddShift> {dim} {dim}\n<LearnRateCoef> 0 "
        f"[ {vector(shift)} ]\n<Rescale> {dim} {dim}\n<LearnRateCoef> 0 "
        f"[ {vector(scale)} ]\n</Nnet>"
    ).encode()
