"""Unsigned int8 weights become signed ones without changing a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.engine import ort
from agent.errors import CompatibilityError
from agent.store.rewrite_signed import NothingToDo, signed_weights
from tests.unit.store.signed import products_saturate

ROWS, COLUMNS = 64, 24


def product(number: int, weight: str, zero: str, source: str = "x") -> list[Any]:
    """source f32[1,n,ROWS] -> y<number>: an integer product as ONNX Runtime's quantiser writes."""
    n = str(number)
    return [
        helper.make_node("DynamicQuantizeLinear", [source], [f"q{n}", f"s{n}", f"z{n}"]),
        helper.make_node("MatMulInteger", [f"q{n}", weight, f"z{n}", zero], [f"i{n}"]),
        helper.make_node("Cast", [f"i{n}"], [f"c{n}"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"c{n}", f"s{n}"], [f"y{n}"]),
    ]


def weights(kind: Any = np.uint8, columns: int = COLUMNS) -> Any:
    low = np.iinfo(kind).min
    rng = np.random.default_rng(1)
    return rng.integers(low, low + 256, (ROWS, columns)).astype(kind)


def graph(nodes: list[Any], constants: dict[str, Any], outputs: list[str]) -> bytes:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", ROWS])],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())


def outputs(data: bytes) -> dict[str, Any]:
    loaded = ort.open_graph(data, name="m", threads=1)
    rng = np.random.default_rng(2)
    return loaded.run({"x": rng.standard_normal((1, 9, ROWS)).astype(np.float32)})


def assert_same_numbers(data: bytes, signed: bytes) -> None:
    before, after = outputs(data), outputs(signed)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert products_saturate() or value.tobytes() == after[name].tobytes(), name


def kinds(data: bytes) -> dict[str, int]:
    return {t.name: t.data_type for t in onnx.load_model_from_string(data).graph.initializer}


ZEROS = {
    "one": np.array(131, np.uint8),
    "one in a vector": np.array([131], np.uint8),
    "a column": np.arange(100, 100 + COLUMNS).astype(np.uint8),
    "the ends": np.array([0, 255] * (COLUMNS // 2), np.uint8),
}


@pytest.mark.parametrize("zero", ZEROS.values(), ids=ZEROS.keys())
def test_weight_and_zero_point_are_shifted_together(zero: Any) -> None:
    data = graph(product(0, "w", "wz"), {"w": weights(), "wz": zero}, ["y0"])
    signed = signed_weights(data, "m")
    assert kinds(signed) == {"w_signed": TensorProto.INT8, "wz_signed": TensorProto.INT8}
    tensors = onnx.load_model_from_string(signed).graph.initializer
    found = {t.name: numpy_helper.to_array(t) for t in tensors}
    assert np.array_equal(found["w_signed"], weights().astype(int) - 128)
    assert np.array_equal(found["wz_signed"], zero.astype(int) - 128)
    assert_same_numbers(data, signed)


def test_a_zero_point_that_is_left_out_is_0() -> None:
    nodes = product(0, "w", "")
    del nodes[1].input[3]
    data = graph(nodes, {"w": weights()}, ["y0"])
    signed = signed_weights(data, "m")
    assert set(kinds(signed).values()) == {TensorProto.INT8}
    assert_same_numbers(data, signed)


def test_a_weight_in_a_constant_node_is_shifted() -> None:
    value = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights()))
    data = graph([value, *product(0, "w", "wz")], {"wz": np.array(120, np.uint8)}, ["y0"])
    signed = signed_weights(data, "m")
    assert "Constant" not in {n.op_type for n in onnx.load_model_from_string(signed).graph.node}
    assert_same_numbers(data, signed)


def test_a_shared_weight_is_copied_once() -> None:
    nodes = product(0, "w", "wz") + product(1, "w", "wz2")
    zeros = {"wz": np.array(120, np.uint8), "wz2": np.array(7, np.uint8)}
    data = graph(nodes, {"w": weights(), **zeros}, ["y0", "y1"])
    signed = signed_weights(data, "m")
    assert sorted(kinds(signed)) == ["w_signed", "wz2_signed", "wz_signed"]
    assert_same_numbers(data, signed)


def test_what_else_reads_a_weight_keeps_the_unsigned_one() -> None:
    nodes = [*product(0, "w", "wz"), helper.make_node("Identity", ["w"], ["seen"])]
    data = graph(nodes, {"w": weights(), "wz": np.array(120, np.uint8)}, ["y0", "seen"])
    signed = signed_weights(data, "m")
    assert kinds(signed)["w"] == TensorProto.UINT8
    assert_same_numbers(data, signed)


def test_signed_weights_and_products_of_two_activations_stay() -> None:
    nodes = [
        *product(0, "w", "wz"),
        *product(1, "s", "sz"),
        helper.make_node("Transpose", ["q0"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMulInteger", ["q0", "turned", "z0", "z0"], ["square"]),
    ]
    constants = {
        "w": weights(),
        "wz": np.array(120, np.uint8),
        "s": weights(np.int8),
        "sz": np.array(3, np.int8),
    }
    data = graph(nodes, constants, ["y0", "y1", "square"])
    signed = signed_weights(data, "m")
    assert kinds(signed).keys() == {"w_signed", "wz_signed", "s", "sz"}
    assert_same_numbers(data, signed)


def test_a_graph_without_unsigned_weights_is_told_apart() -> None:
    data = graph(product(0, "s", ""), {"s": weights(np.int8)}, ["y0"])
    with pytest.raises(NothingToDo, match=r"m/model\.onnx: has no unsigned int8 weights"):
        signed_weights(data, "m/model.onnx")


def test_a_malformed_weight_is_refused() -> None:
    data = graph(product(0, "w", "wz"), {"w": weights(), "wz": np.array(1, np.uint8)}, ["y0"])
    model = onnx.load_model_from_string(data)
    model.graph.initializer[0].raw_data = b"short"
    with pytest.raises(CompatibilityError, match="is malformed"):
        signed_weights(model.SerializeToString(), "m")
