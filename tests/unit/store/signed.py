"""Whether this CPU's integer products are exact where weights are signed."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.engine import ort

ROWS = 64


@functools.cache
def products_saturate() -> bool:
    """x86-64 CPUs without VNNI add two products of u8 and s8 in 16 bits, which 255 * 127 exceeds
    twice over. A box with such a CPU proves it in the trial and keeps the unsigned form."""
    weight = numpy_helper.from_array(np.full((ROWS, ROWS), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, ROWS])],
        [weight],
    )
    opset = helper.make_opsetid("", 14)
    data = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    found = ort.open_graph(data, name="probe", threads=1).run(
        {"x": np.full((1, ROWS), 255, np.uint8)}
    )["y"]
    return bool((found != 255 * 127 * ROWS).any())


needs_exact_products = pytest.mark.skipif(
    products_saturate(), reason="this CPU saturates signed products: it keeps the unsigned form"
)
