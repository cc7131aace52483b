"""A rewrite of dynamic int8 graphs that changes no number and lets streams share a run.

DynamicQuantizeLinear takes one range over its whole input, so that what a stream gets depends on
the streams beside it. Here every such product, with its quantisation, goes into a Scan over the
batch axis: it sees one stream at a time and computes what it computes alone, with the weights
still in the cache from the stream before; everything between the products stays one operation for
all. The onnx library is loaded on use.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from agent.store.rewrite import Graph
from agent.store.rewrite_signed import NothingToDo, sign_weights

_INT, _GRAPH = 2, 5
"""Kinds of attributes (onnx.AttributeProto)."""
_FLOAT = 1
"""Element type (onnx.TensorProto)."""


def products_by_stream(data: bytes, name: str) -> bytes:
    """The graph with its dynamic int8 products done stream by stream, with signed weights.

    The first axis of every quantised activation must be the batch. Raises NothingToDo when there
    is no such product, CompatibilityError when a weight is malformed.
    """
    graph = Graph(data, name)
    sign_weights(graph)
    if not separate_products(graph):
        raise NothingToDo("has no dynamic int8 products", file=name)
    graph.drop_unused()
    return graph.serialised()


def separate_products(graph: Graph) -> bool:
    """Put every dynamic int8 product into a Scan over the batch; whether there was one."""
    producers = {name: node for node in graph.nodes for name in node.output}
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.input:
            readers[name].append(node)
    ports = {port.name for port in graph.model.graph.output}
    scans: dict[int, Any] = {}
    for node in graph.nodes:
        if node.op_type != "MatMulInteger" or node.domain:
            continue
        chain = _chain(graph, node, producers, readers, ports)
        if chain:
            scans[id(chain[-1])] = _scan(graph, chain, len(scans))
    # The last node of a chain gives way to the Scan; the others are dropped as unused.
    graph.nodes = [scans.get(id(node), node) for node in graph.nodes]
    return bool(scans)


def _chain(
    graph: Graph,
    product: Any,
    producers: dict[str, Any],
    readers: dict[str, list[Any]],
    ports: set[str],
) -> list[Any]:
    """Quantise, multiply, cast, the scales' product, scale, and the bias where there is one."""

    def only_reader(node: Any, operator: str) -> Any:
        found = readers[node.output[0]]
        alone = len(found) == 1 and node.output[0] not in ports
        return found[0] if alone and found[0].op_type == operator else None

    quantise = producers.get(product.input[0])
    cast = only_reader(product, "Cast")
    scaled = only_reader(cast, "Mul") if cast is not None else None
    if quantise is None or quantise.op_type != "DynamicQuantizeLinear" or scaled is None:
        return []
    factor = producers.get(next(name for name in scaled.input if name != cast.output[0]))
    if factor is None or factor.op_type != "Mul" or quantise.output[1] not in factor.input:
        return []
    chain = [quantise, product, cast, factor, scaled]
    bias = only_reader(scaled, "Add")
    if bias is not None and any(name in graph.constants for name in bias.input):
        chain.append(bias)
    return chain


def _scan(graph: Graph, chain: list[Any], number: int) -> Any:
    """One node in place of the chain: Scan over the first axis of its activation."""
    activation, result = chain[0].input[0], chain[-1].output[0]
    inside = graph.fresh(f"{activation}_of_stream_{number}")
    names = {activation: inside}
    for node in chain:
        for name in node.output:
            names[name] = graph.fresh(f"{name}_of_stream_{number}")
    body = type(graph.model.graph)(name=f"stream_{number}")
    for node in chain:
        copy = body.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names[name] for name in node.output]
    for ports, name in ((body.input, inside), (body.output, names[result])):
        ports.add(name=name).type.tensor_type.elem_type = _FLOAT
    scan = type(chain[0])(op_type="Scan", name=graph.fresh(f"by_stream_{number}"))
    scan.input.append(activation)
    scan.output.append(result)
    scan.attribute.add(name="num_scan_inputs", type=_INT, i=1)
    scan.attribute.add(name="body", type=_GRAPH).g.CopyFrom(body)
    return scan
