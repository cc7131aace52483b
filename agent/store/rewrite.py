"""Rewrites of graphs: dynamic int8 back to fp32, and products to half precision.

The onnx library is loaded on use: rewrite in a process of its own.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import CompatibilityError
from agent.store.inspect_graph import graphs_of, is_int8, nodes_below, parse_model, show, some

Array = NDArray[Any]

_MAX_GRAPH_BYTES = (1 << 31) - 1
"""Protobuf reads no longer message."""
_LARGEST_HALF = float(np.finfo(np.float16).max)
_HALF_OPERATORS = ("MatMul", "Gemm")


def dequantise(data: bytes, name: str) -> bytes:
    """An fp32 graph with the weights of a dynamic int8 graph.

    Turns DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul (scale of the activation times
    scale of the weights) back into MatMul, with (weight - zero point) * scale as its weight. A
    graph without int8 keeps its numbers. Raises CompatibilityError naming what can't be turned
    back.
    """
    return _dequantised(data, name).serialised()


def to_fp16(data: bytes, name: str) -> bytes:
    """The graph with its weight matrices, and the products with them, in half precision.

    Everything between the products stays fp32, as do inputs and outputs: squares in layer norms,
    masks, ranges and CIF's running sum would leave what fp16 can hold. Raises CompatibilityError.
    """
    graph = Graph(data, name)
    _halve(graph)
    graph.drop_unused()
    return graph.serialised()


def dequantise_to_fp16(data: bytes, name: str) -> bytes:
    """As `to_fp16` of `dequantise`, without ever holding the fp32 graph."""
    graph = _dequantised(data, name)
    _halve(graph)
    graph.drop_unused()
    return graph.serialised()


def _dequantised(data: bytes, name: str) -> Graph:
    graph = Graph(data, name)
    _turn_back(graph)
    graph.drop_unused()
    _refuse_int8(graph)
    return graph


class Graph:
    """A parsed graph, with weights that are computed only when it is written.

    For rewrites: they change `nodes` and put new weights into `made`.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.model = parse_model(data, name)
        self.nodes: list[Any] = list(self.model.graph.node)
        fed = {port.name for port in self.model.graph.input}
        self.constants: dict[str, Any] = {
            tensor.name: tensor for tensor in self.model.graph.initializer if tensor.name not in fed
        }
        """Name -> TensorProto."""
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = node.attribute[0].t
        self.made: dict[str, Callable[[], Array]] = {}
        """Name of a new weight -> what computes it. Raises ValueError or TypeError."""
        self._names = {*fed, *self.constants}
        self._names.update(name for node in nodes_below(self.nodes) for name in node.output)

    def fresh(self, wanted: str) -> str:
        """`wanted`, or a name like it that the graph does not use yet."""
        while wanted in self._names:
            wanted += "_"
        self._names.add(wanted)
        return wanted

    def uses(self) -> Counter[str]:
        """How often each name is read: by nodes, in their inner graphs, as output."""
        names = Counter(name for node in self.nodes for name in _names_read(node))
        names.update(port.name for port in self.model.graph.output)
        return names

    def drop_unused(self) -> None:
        """Drop nodes and weights that nothing reads (any more)."""
        uses = self.uses()
        kept: list[Any] = []
        for node in reversed(self.nodes):
            if any(uses[name] > 0 for name in node.output):
                kept.append(node)
            else:
                uses.subtract(_names_read(node))
        self.nodes = kept[::-1]
        self.made = {name: make for name, make in self.made.items() if uses[name] > 0}
        initializers = self.model.graph.initializer
        for at in range(len(initializers) - 1, -1, -1):
            name = initializers[at].name
            if uses[name] <= 0 and name in self.constants:
                del initializers[at], self.constants[name]

    def serialised(self) -> bytes:
        """The graph's bytes, written weight by weight; call it once.

        Serialised messages that follow each other are read as one merged message, so a second
        copy of all weights is never held.
        """
        graph = self.model.graph
        tensors = list(graph.initializer)
        del graph.initializer[:], graph.node[:]
        graph.node.extend(self.nodes)
        out = io.BytesIO()
        out.write(self.model.SerializeToString())
        for tensor in tensors:
            out.write(_graph_of(tensor))
        for name, make in self.made.items():
            try:
                out.write(_graph_of(_tensor(name, make())))
            except (ValueError, TypeError) as error:
                raise CompatibilityError(
                    f"the weight {show(name)} is malformed: {error}", file=self.name
                ) from None
            if out.tell() > _MAX_GRAPH_BYTES:
                raise CompatibilityError("would be larger than 2 GB", file=self.name)
        return out.getvalue()


def _names_read(node: Any) -> Iterator[str]:
    """Names that a node reads, those in its inner graphs included."""
    yield from node.input
    for graph in graphs_of(node):
        yield from (port.name for port in graph.output)
        for inner in graph.node:
            yield from _names_read(inner)


def _graph_of(tensor: Any) -> bytes:
    from onnx import GraphProto, ModelProto

    return bytes(ModelProto(graph=GraphProto(initializer=[tensor])).SerializeToString())


def _tensor(name: str, values: Array) -> Any:
    from onnx import TensorProto, helper

    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    return TensorProto(name=name, dims=values.shape, data_type=kind, raw_data=values.tobytes())


def new_node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    """A NodeProto with one output."""
    from onnx import helper

    return helper.make_node(operator, inputs, [output], **attributes)


def new_branch(nodes: Sequence[Any], output: str) -> Any:
    """A GraphProto without inputs, for an attribute of If, that puts out one float value."""
    from onnx import TensorProto, helper

    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, output, [], [made])


def array_of(tensor: Any) -> Array:
    """The values of a TensorProto."""
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor))


def _turn_back(graph: Graph) -> None:
    """Every product of a quantised activation and constant int8 weights becomes a MatMul."""
    uses = graph.uses()
    producers = {name: node for node in graph.nodes for name in node.output}
    readers = {name: node for node in graph.nodes for name in node.input}
    weights: dict[tuple[str, ...], str] = {}

    def only_reader(name: str, operator: str) -> Any:
        node = readers.get(name)
        return node if node is not None and uses[name] == 1 and node.op_type == operator else None

    for node in graph.nodes:
        if node.op_type != "MatMulInteger":
            continue
        activation, weight, zero, weight_zero = [*node.input, "", ""][:4]
        quantise = producers.get(activation)
        cast = only_reader(node.output[0], "Cast")
        scaled = only_reader(cast.output[0], "Mul") if cast is not None else None
        if scaled is None or quantise is None or quantise.op_type != "DynamicQuantizeLinear":
            continue
        factor = producers.get(next(name for name in scaled.input if name != cast.output[0]))
        if factor is None or factor.op_type != "Mul" or zero != quantise.output[2]:
            continue
        scales = [name for name in factor.input if name != quantise.output[1]]
        parts = (weight, *scales, *([weight_zero] if weight_zero else []))
        if len(scales) != 1 or not {*parts} <= {*graph.constants}:
            continue
        if parts not in weights:
            weights[parts] = graph.fresh(weight.removesuffix("_quantized") + "_fp32")
            graph.made[weights[parts]] = _fp32_weight(*(graph.constants[name] for name in parts))
        # The last node of the chain becomes the product: its output keeps its name and place.
        del scaled.input[:], scaled.attribute[:]
        scaled.op_type, scaled.name = "MatMul", node.name.removesuffix("_quant")
        scaled.input.extend([quantise.input[0], weights[parts]])


def _fp32_weight(weight: Any, scale: Any, zero: Any = None) -> Callable[[], Array]:
    def make() -> Array:
        values = array_of(weight).astype(np.float32)
        if zero is not None:
            values -= array_of(zero).astype(np.float32)
        values *= array_of(scale)
        return values

    return make


def _refuse_int8(graph: Graph) -> None:
    nodes = [*graph.nodes, *(node for function in graph.model.functions for node in function.node)]
    left = [
        f"{show(node.op_type, quote='')} (node {show(node.name)})"
        for node in nodes_below(nodes)
        if is_int8(node.op_type)
    ]
    if left:
        raise CompatibilityError(
            f"can't be turned back to fp32: {some(left)}; use its int8 form on the CPU",
            file=graph.name,
        )


def _halve(graph: Graph) -> None:
    """Products with a constant factor compute in half precision, between casts."""
    from onnx import TensorProto, helper

    halves: dict[str, str] = {}
    nodes: list[Any] = []

    def is_weight(name: str) -> bool:
        tensor = graph.constants.get(name)
        return name in graph.made or (tensor is not None and tensor.data_type == TensorProto.FLOAT)

    for node in graph.nodes:
        if node.op_type not in _HALF_OPERATORS or not any(map(is_weight, node.input)):
            nodes.append(node)
            continue
        for at, name in enumerate(node.input):
            if name and name not in halves:
                halves[name] = graph.fresh(f"{name}_fp16")
                if is_weight(name):
                    graph.made[halves[name]] = _fp16_weight(graph, name)
                else:
                    cast = helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16)
                    nodes.append(cast)
            node.input[at] = halves[name] if name else ""
        output = node.output[0]
        node.output[0] = halves[output] = graph.fresh(f"{output}_fp16")
        back = helper.make_node("Cast", [halves[output]], [output], to=TensorProto.FLOAT)
        nodes += [node, back]
    graph.nodes = nodes


def _fp16_weight(graph: Graph, name: str) -> Callable[[], Array]:
    tensor, whole = graph.constants.get(name), graph.made.get(name)

    def make() -> Array:
        values = array_of(tensor) if whole is None else whole()
        return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)

    return make
