"""A rewrite of dynamic int8 graphs that changes no number: unsigned weights become signed ones.

The published models hold uint8 weights. A product with (weight - 128) and (zero point - 128) in
int8 is the same integer, and where the CPU multiplies unsigned by signed bytes in one instruction
it is computed much faster. The onnx library is loaded on use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agent.errors import CompatibilityError
from agent.store.rewrite import Array, Graph, array_of

_SHIFT = 128


class NothingToDo(CompatibilityError):
    """The graph holds nothing that this rewrite is for."""

    code = "nothing_to_do"


def signed_weights(data: bytes, name: str) -> bytes:
    """The graph with every constant uint8 weight of MatMulInteger in int8.

    Raises NothingToDo when it has none, CompatibilityError when one is malformed.
    """
    graph = Graph(data, name)
    if not sign_weights(graph):
        raise NothingToDo("has no unsigned int8 weights", file=name)
    graph.drop_unused()
    return graph.serialised()


def sign_weights(graph: Graph) -> bool:
    """Have every product read signed copies of its weight and zero point; whether one does.

    A copy is made once for all products that share it; what else reads the original keeps it.
    """
    signed: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type != "MatMulInteger" or node.domain:
            continue
        weight, zero = [*node.input, "", ""][1], [*node.input, "", "", ""][3]
        if not _is_unsigned(graph, weight) or (zero and not _is_unsigned(graph, zero)):
            continue
        # Without a zero point, it is 0.
        while len(node.input) < 4:
            node.input.append("")
        for at, source in ((1, weight), (3, zero)):
            if source not in signed:
                signed[source] = graph.fresh(f"{source or 'zero_point'}_signed")
                graph.made[signed[source]] = _shifted(graph.constants.get(source))
            node.input[at] = signed[source]
    return bool(signed)


def _is_unsigned(graph: Graph, name: str) -> bool:
    tensor = graph.constants.get(name)
    return tensor is not None and tensor.data_type == tensor.UINT8


def _shifted(tensor: Any) -> Callable[[], Array]:
    def make() -> Array:
        unsigned = np.zeros((), np.uint8) if tensor is None else array_of(tensor)
        # Flipping the highest bit takes 128 away, in place of any wider arithmetic.
        signed: Array = (unsigned ^ np.uint8(_SHIFT)).view(np.int8)
        return signed

    return make
