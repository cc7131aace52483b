"""A rewrite of streaming graphs that changes no number and leaves out what a full window needs not.

Windows and tokens of a hop are never padded (`agent.engine.hops`), so masks multiply by one and add
zero; attention is one operation of the runtime in place of ten; and a depthwise convolution over
few frames, which the runtime computes channel by channel, becomes one product over all channels.
The onnx library is loaded on use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.store.rewrite import Array, Graph, array_of, new_branch, new_node
from agent.store.rewrite_by_stream import separate_products
from agent.store.rewrite_signed import NothingToDo, sign_weights

_TIME_FIRST, _HEADS_FIRST, _KEYS_TURNED = (0, 2, 1), (0, 2, 1, 3), (0, 2, 3, 1)
"""Axes of [B, C, T] as [B, T, C]; of [B, T, H, D] as [B, H, T, D] and as [B, H, D, T]."""
_CONTRIB = "com.microsoft"
"""Domain of the runtime's own operators."""
_LENGTHS = ("_lengths", "_len")
"""Ends of the names of inputs that count frames or tokens."""


def lean_signed(data: bytes, name: str) -> bytes:
    """The graph with fewer steps and signed weights. Raises NothingToDo, CompatibilityError."""
    return _lean(data, name).serialised()


def lean_by_stream(data: bytes, name: str) -> bytes:
    """As `lean_signed`, and with its int8 products done stream by stream."""
    graph = _lean(data, name)
    separate_products(graph)
    graph.drop_unused()
    return graph.serialised()


def _lean(data: bytes, name: str) -> Graph:
    graph = Graph(data, name)
    if not sign_weights(graph):
        raise NothingToDo("has no unsigned int8 weights", file=name)
    changed = [_drop_masks(graph), _join_attention(graph), _widen_convolutions(graph)]
    if not any(changed):
        raise NothingToDo("has no step that can be left out", file=name)
    graph.drop_unused()
    return graph


class _Links:
    """Who makes and who reads each value of a graph, as it is when this is made."""

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self._makers = {name: node for node in graph.nodes for name in node.output}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.nodes:
            for name in node.input:
                self._readers[name].append(node)

    def maker(self, name: str, operator: str) -> Any:
        """The node that makes `name`, when it is of that kind."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == operator else None

    def reader(self, node: Any, operator: str) -> Any:
        """The one node of that kind that reads the output of `node`."""
        found = [other for other in self._readers[node.output[0]] if other.op_type == operator]
        return found[0] if len(found) == 1 else None

    def only_reader(self, node: Any, operator: str) -> Any:
        """As `reader`, when nothing else reads it."""
        return self.reader(node, operator) if len(self._readers[node.output[0]]) == 1 else None

    def number(self, name: str) -> Array | None:
        """A constant of one element."""
        tensor = self.constants.get(name)
        value = None if tensor is None else array_of(tensor)
        return value.reshape(()) if value is not None and value.size == 1 else None


def _drop_masks(graph: Graph) -> bool:
    """What is made of lengths alone multiplies by one or adds zero where nothing is padded."""
    of_lengths = {p.name for p in graph.model.graph.input if p.name.endswith(_LENGTHS)}
    kept_names = {port.name for port in graph.model.graph.output}
    instead: dict[str, str] = {}
    kept: list[Any] = []
    for node in graph.nodes:
        node.input[:] = [instead.get(name, name) for name in node.input]
        read = [name for name in node.input if name and name not in graph.constants]
        data = [name for name in read if name not in of_lengths]
        if node.op_type == "Shape" or (read and not data):
            of_lengths.update(node.output)
        elif (
            node.op_type in ("Mul", "Add")
            and len(read) == 2
            and len(data) == 1
            and node.output[0] not in kept_names
        ):
            instead[node.output[0]] = data[0]
            continue
        kept.append(node)
    graph.nodes = kept
    return bool(instead)


def _join_attention(graph: Graph) -> bool:
    """Scaled products of queries, keys and values, heads apart, become MultiHeadAttention."""
    links = _Links(graph)
    joined: dict[int, Any] = {}
    first = ""
    for softmax in [node for node in graph.nodes if node.op_type == "Softmax"]:
        parts = _attention(links, softmax)
        if parts is None:
            continue
        query, key, value, heads, scale, result = parts
        # Scores without a bias go another way, which rounds differently.
        first = first or _no_bias(graph, joined, softmax, query, key)
        joined[id(result)] = new_node(
            "MultiHeadAttention",
            [query, key, value, "", "", first],
            result.output[0],
            domain=_CONTRIB,
            num_heads=heads,
            scale=scale,
        )
    if joined:
        _replace(graph, joined)
        if all(known.domain != _CONTRIB for known in graph.model.opset_import):
            graph.model.opset_import.add(domain=_CONTRIB, version=1)
    return bool(joined)


def _attention(links: _Links, softmax: Any) -> tuple[str, str, str, int, float, Any] | None:
    """Query, key, value ([B, T, H * D]), heads, scale, and the node that makes the result."""
    weighted = links.only_reader(softmax, "MatMul")
    turned = links.only_reader(weighted, "Transpose") if weighted is not None else None
    result = links.reader(turned, "Reshape") if turned is not None else None
    scores, divisor = links.maker(softmax.input[0], "MatMul"), None
    if scores is None:
        divided = links.maker(softmax.input[0], "Div")
        divisor = links.number(divided.input[1]) if divided is not None else None
        scores = links.maker(divided.input[0], "MatMul") if divided is not None else None
    if result is None or scores is None or _perm(turned) != _HEADS_FIRST:
        return None
    queries, factor = scores.input[0], None
    if divisor is None:
        scaled = links.maker(queries, "Mul")
        factor = links.number(scaled.input[1]) if scaled is not None else None
        queries = scaled.input[0] if scaled is not None else ""
    else:
        factor = (np.float32(1) / divisor).astype(np.float32)
    query, heads = _split_heads(links, queries, _HEADS_FIRST)
    key, same = _split_heads(links, scores.input[1], _KEYS_TURNED)
    value, alike = _split_heads(links, weighted.input[1], _HEADS_FIRST)
    if factor is None or not heads or not heads == same == alike:
        return None
    return query, key, value, heads, float(factor), result


def _split_heads(links: _Links, name: str, axes: Sequence[int]) -> tuple[str, int]:
    """[B, T, H * D] behind a value whose heads were split, and H; 0 where it was made otherwise."""
    turned = links.maker(name, "Transpose")
    split = links.maker(turned.input[0], "Reshape") if turned is not None else None
    if split is None or _perm(turned) != tuple(axes):
        return "", 0
    sizes = links.maker(split.input[1], "Concat")
    heads = links.number(sizes.input[2]) if sizes is not None and len(sizes.input) == 4 else None
    return (split.input[0], int(heads)) if heads is not None else ("", 0)


def _no_bias(graph: Graph, joined: dict[int, Any], before: Any, query: str, key: str) -> str:
    """Zeros [1, 1, queries, keys], made once before the first attention."""
    made = {role: graph.fresh(f"no_bias_{role}") for role in ("zero", "at", "ones", "all")}
    lengths = {name: graph.fresh(f"no_bias_{name}") for name in ("query", "key")}
    graph.made[made["zero"]] = lambda: np.zeros((1, 1, 1, 1), np.float32)
    graph.made[made["at"]] = lambda: np.array([1])
    graph.made[made["ones"]] = lambda: np.array([1, 1])
    nodes = []
    for role, source in (("query", query), ("key", key)):
        shape = graph.fresh(f"{lengths[role]}_shape")
        nodes.append(new_node("Shape", [source], shape))
        nodes.append(new_node("Gather", [shape, made["at"]], lengths[role]))
    sizes = graph.fresh("no_bias_sizes")
    nodes.append(new_node("Concat", [made["ones"], *lengths.values()], sizes, axis=0))
    nodes.append(new_node("Expand", [made["zero"], sizes], made["all"]))
    at = next(i for i, node in enumerate(graph.nodes) if node is before)
    graph.nodes[at:at] = nodes
    return made["all"]


@dataclass(frozen=True)
class _Taps:
    """Values that all convolutions with a kernel of one size share."""

    frames: str
    """Indices [T, K] of the frames that each frame is made of."""
    single: str
    """Whether T is 1."""


def _widen_convolutions(graph: Graph) -> bool:
    """Depthwise convolutions over time become: frames of each tap, times the tap, summed."""
    links = _Links(graph)
    taps: dict[int, _Taps] = {}
    widened: dict[int, list[Any]] = {}
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        weight = _depthwise(graph, node)
        turned = links.only_reader(node, "Transpose")
        if weight is None or turned is None or _perm(turned) != _TIME_FIRST:
            continue
        kernel = weight.shape[1]
        new: list[Any] = []
        if kernel not in taps:
            taps[kernel] = _taps(graph, new, node.input[0], kernel)
        body = _weighted_sum(graph, node.input[0], turned.output[0], taps[kernel], weight)
        # Of audio that is not padded, a single frame is summed in another order.
        if links.maker(node.input[0], "Pad") is None:
            body = [_unless_single(graph, taps[kernel], body, [node, turned])]
        widened[id(node)], widened[id(turned)] = [], [*new, *body]
    graph.nodes = [new for node in graph.nodes for new in widened.get(id(node), [node])]
    return bool(widened)


def _depthwise(graph: Graph, node: Any) -> Array | None:
    """Taps [C, K] of a convolution that takes each channel by itself, every frame, unpadded."""
    tensor = graph.constants.get(node.input[1])
    if tensor is None or len(tensor.dims) != 3 or tensor.dims[1] != 1 or len(node.input) != 2:
        return None
    given = {attribute.name: attribute for attribute in node.attribute}
    plain = all(size == 1 for name in ("strides", "dilations") for size in _ints(given, name))
    unpadded = not any(_ints(given, "pads")) and "auto_pad" not in given
    alone = "group" in given and given["group"].i == tensor.dims[0]
    return array_of(tensor)[:, 0, :] if plain and unpadded and alone else None


def _taps(graph: Graph, nodes: list[Any], source: str, kernel: int) -> _Taps:
    """Appends what makes them. `source`: input [B, C, T + K - 1] of a convolution."""

    def value(role: str, array: Array | None = None) -> str:
        name = graph.fresh(f"taps_{kernel}_{role}")
        if array is not None:
            graph.made[name] = lambda: array
        return name

    zero, one = value("zero", np.array(0)), value("one", np.array(1))
    shape, length, count = value("shape"), value("length"), value("count")
    steps, column = value("steps"), value("column")
    taps = _Taps(value("frames"), value("single"))
    nodes += [
        new_node("Shape", [source], shape),
        new_node("Gather", [shape, value("last", np.array(2))], length),
        new_node("Sub", [length, value("overlap", np.array(kernel - 1))], count),
        new_node("Range", [zero, count, one], steps),
        new_node("Unsqueeze", [steps, value("axis", np.array([1]))], column),
        new_node("Add", [column, value("row", np.arange(kernel)[None])], taps.frames),
        new_node("Equal", [count, one], taps.single),
    ]
    return taps


def _weighted_sum(graph: Graph, source: str, result: str, taps: _Taps, weight: Array) -> list[Any]:
    """[B, C, T + K - 1] -> [B, T, C]. The product with ones sums as the convolution does."""
    turned, gathered, weighted, weights, ones = (
        graph.fresh(f"{result}_{role}")
        for role in ("turned", "frames", "weighted", "weights", "ones")
    )
    graph.made[weights] = lambda: np.ascontiguousarray(weight.T)
    graph.made[ones] = lambda: np.ones(weight.shape[1], np.float32)
    return [
        new_node("Transpose", [source], turned, perm=list(_TIME_FIRST)),
        new_node("Gather", [turned, taps.frames], gathered, axis=1),
        new_node("Mul", [gathered, weights], weighted),
        new_node("MatMul", [ones, weighted], result),
    ]


def _unless_single(graph: Graph, taps: _Taps, body: list[Any], original: list[Any]) -> Any:
    """One node: `original` where there is a single frame, else `body`; both make the same value."""
    result = original[-1].output[0]
    branches = {}
    for branch, nodes in (("then_branch", original), ("else_branch", body)):
        name = graph.fresh(f"{result}_{branch}")
        nodes[-1].output[0] = name
        branches[branch] = new_branch(nodes, name)
    return new_node("If", [taps.single], result, **branches)


def _replace(graph: Graph, new: dict[int, Any]) -> None:
    graph.nodes = [new.get(id(node), node) for node in graph.nodes]


def _perm(node: Any) -> tuple[int, ...]:
    return tuple(_ints({attribute.name: attribute for attribute in node.attribute}, "perm"))


def _ints(attributes: dict[str, Any], name: str) -> list[int]:
    return list(attributes[name].ints) if name in attributes else []
