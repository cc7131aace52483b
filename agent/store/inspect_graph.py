"""Level 2 before a session is opened: what a graph's file needs, and whether this runtime has it.

The onnx library is loaded on use, and a graph is held as a second copy meanwhile: call this in a
short-lived process.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.engine.placement import DEFAULT_DOMAIN, PROVIDER_NAMES, RuntimeOperators
from agent.errors import CompatibilityError

Quantised = Literal["none", "dynamic_int8", "static_int8", "weights_only"]

_DYNAMIC_INT8 = re.compile(r"DynamicQuantize\w+|(MatMul|Conv)Integer(ToFloat)?")
_STATIC_INT8 = re.compile(r"QLinear\w+|(Quantize|Dequantize)Linear|QGemm|QAttention")
_WEIGHTS_ONLY = {"MatMulNBits", "GatherBlockQuantized"}
_MOST_NAMED = 8
"""Operators or tensors that one message names."""
_LONGEST_NAME = 60


@dataclass(frozen=True)
class GraphFacts:
    """What a graph's file says of itself."""

    ir_version: int
    opsets: Mapping[str, int]
    """Domain (`ai.onnx` for the default one) -> opset."""
    operators: Mapping[str, int]
    """Operator -> nodes, bodies of If, Loop and functions included. An operator of another domain
    than `ai.onnx` is written with it: `com.microsoft:MatMulNBits`."""
    weights_bytes: int
    """Of all initialisers, as stored."""
    quantised: Quantised
    without_kernel: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Provider -> operators of this graph that it has no kernel for; empty where unknown."""


def inspect_graph(data: bytes, name: str, *, runtime: RuntimeOperators) -> GraphFacts:
    """Read a graph's file without running it. `name` is for messages.

    Raises CompatibilityError: not an ONNX graph, weights kept in another file, an opset or
    operators that `runtime` does not know (not judged when the build does not tell them).
    """
    model = parse_model(data, name)
    opsets = _opsets(model.opset_import)
    functions = {(_domain(f.domain), f.name) for f in model.functions}
    operators: Counter[tuple[str, str]] = Counter()
    unknown: dict[tuple[str, str], str] = {}
    newer: dict[str, int] = {}
    for node, scope in _all_nodes(model, opsets):
        key = (_domain(node.domain), str(node.op_type))
        if key in functions:
            continue
        operators[key] += 1
        if runtime.known and key not in unknown:
            if scope.get(key[0], 0) > runtime.max_opset.get(key[0], scope.get(key[0], 0)):
                newer[key[0]] = scope[key[0]]
            elif reason := _unknown(key, scope, runtime):
                unknown[key] = f"{reason}, node {show(node.name)})"
    _refuse_external(model, name)
    _refuse_newer(newer, name, runtime)
    if unknown:
        raise CompatibilityError(
            f"ONNX Runtime {runtime.version} does not know {some(list(unknown.values()))}; use a "
            "newer ONNX Runtime, or export the model without them",
            file=name,
        )
    return GraphFacts(
        ir_version=int(model.ir_version),
        opsets=opsets,
        operators={_name(key): count for key, count in operators.most_common()},
        weights_bytes=sum(_stored_bytes(tensor) for tensor in _all_initialisers(model)),
        quantised=_quantised({operator for _, operator in operators}),
        without_kernel=_without_kernel(operators, opsets, runtime),
    )


def missing_kernels(facts: GraphFacts, provider: str) -> tuple[str, ...]:
    """Operators whose nodes would go to the CPU for want of a kernel; empty when unknown.

    Element types are not looked at: CUDA has a MatMulInteger, but not for uint8.
    """
    return facts.without_kernel.get(provider, ())


def is_int8(operator: str) -> bool:
    """Whether an operator computes on int8 or makes it."""
    return bool(_DYNAMIC_INT8.fullmatch(operator) or _STATIC_INT8.fullmatch(operator))


def parse_model(data: bytes, name: str) -> Any:
    """The onnx.ModelProto in `data`. Raises CompatibilityError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise _not_a_graph("its bytes can't be parsed", name) from None
    if not model.HasField("graph") or not model.graph.node:
        raise _not_a_graph("it has no nodes", name)
    if not model.opset_import:
        raise _not_a_graph("it states no opset", name)
    return model


def _not_a_graph(reason: str, name: str) -> CompatibilityError:
    return CompatibilityError(f"is not an ONNX graph: {reason}; export the model again", file=name)


def _all_nodes(model: Any, opsets: Mapping[str, int]) -> Iterator[tuple[Any, Mapping[str, int]]]:
    """Every node with the opsets that hold for it."""
    for node in nodes_below(model.graph.node):
        yield node, opsets
    for function in model.functions:
        own = {**opsets, **_opsets(function.opset_import)}
        for node in nodes_below(function.node):
            yield node, own


def nodes_below(nodes: Any) -> Iterator[Any]:
    """Nodes and those of all graphs in their attributes; protobuf bounds the depth."""
    for node in nodes:
        yield node
        for graph in graphs_of(node):
            yield from nodes_below(graph.node)


def graphs_of(node: Any) -> Iterator[Any]:
    """Graphs in the attributes of a node: branches of an If, body of a Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_initialisers(model: Any) -> Iterator[Any]:
    graphs = [model.graph]
    graphs += [graph for node, _ in _all_nodes(model, {}) for graph in graphs_of(node)]
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _refuse_external(model: Any, name: str) -> None:
    """The bytes of a model must all be in the file that was verified."""
    tensors = [*_all_initialisers(model)]
    for node, _ in _all_nodes(model, {}):
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                tensors += [sparse.values, sparse.indices]
    outside = [t for t in tensors if t.data_location == t.EXTERNAL or t.external_data]
    if outside:
        names = [f"{show(t.name)} in {show(_location(t))}" for t in outside]
        raise CompatibilityError(
            f"keeps weights outside of itself ({some(names)}), where they are not verified; "
            "export it with all weights in one file",
            file=name,
        )


def _location(tensor: Any) -> str:
    return next((str(e.value) for e in tensor.external_data if e.key == "location"), "?")


def _refuse_newer(newer: Mapping[str, int], name: str, runtime: RuntimeOperators) -> None:
    if newer:
        needs = ", ".join(
            f"needs opset {opset} of {domain}, this runtime knows up to {runtime.max_opset[domain]}"
            for domain, opset in newer.items()
        )
        raise CompatibilityError(
            f"{needs}; use a newer ONNX Runtime than {runtime.version}, or export with an older "
            "opset",
            file=name,
        )


def _unknown(key: tuple[str, str], scope: Mapping[str, int], runtime: RuntimeOperators) -> str:
    """How an operator that the runtime can't know is named, up to the node; empty when it can."""
    domain, operator = key
    if domain in scope and runtime.definition(domain, operator, scope[domain]) is not None:
        return ""
    versions = runtime.since.get(domain, {}).get(operator, ())
    if domain not in scope:
        why = f"(domain {show(domain, quote='')}, of which the graph states no opset"
    elif versions:
        why = f"(domain {domain} from opset {versions[0]}, the graph states {scope[domain]}"
    else:
        why = f"(domain {show(domain, quote='')}"
    return f"{show(operator, quote='')} {why}"


def _without_kernel(
    operators: Mapping[tuple[str, str], int], opsets: Mapping[str, int], runtime: RuntimeOperators
) -> dict[str, tuple[str, ...]]:
    missing: dict[str, tuple[str, ...]] = {}
    for provider in PROVIDER_NAMES:
        if provider not in runtime.kernels:
            continue
        names = []
        for domain, operator in operators:
            since = runtime.definition(domain, operator, opsets.get(domain, 0))
            # Constants become initialisers, whatever the provider.
            if since is None or operator == "Constant":
                continue
            if not runtime.has_kernel(provider, domain, operator, since):
                names.append(_name((domain, operator)))
        missing[provider] = tuple(sorted(names))
    return missing


def _quantised(operators: set[str]) -> Quantised:
    if any(map(_DYNAMIC_INT8.fullmatch, operators)):
        return "dynamic_int8"
    if any(map(_STATIC_INT8.fullmatch, operators)):
        return "static_int8"
    return "weights_only" if operators & _WEIGHTS_ONLY else "none"


def _stored_bytes(tensor: Any) -> int:
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return int(tensor.ByteSize())


def _opsets(imports: Any) -> dict[str, int]:
    return {_domain(entry.domain): int(entry.version) for entry in imports}


def _domain(text: str) -> str:
    return str(text) or DEFAULT_DOMAIN


def _name(key: tuple[str, str]) -> str:
    domain, operator = key
    return operator if domain == DEFAULT_DOMAIN else f"{domain}:{operator}"


def some(items: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(items) - _MOST_NAMED
    return ", ".join(items[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def show(text: str, *, quote: str = '"') -> str:
    """A name from the file, cut short and without control characters."""
    plain = "".join(c if c.isprintable() else "?" for c in str(text))
    short = plain if len(plain) <= _LONGEST_NAME else plain[: _LONGEST_NAME - 3] + "..."
    return f"{quote}{short}{quote}"
