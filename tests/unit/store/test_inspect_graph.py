"""What a graph's file needs is told before a session is opened."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent.engine.placement import RuntimeOperators, runtime_operators
from agent.errors import CompatibilityError
from agent.store.inspect_graph import inspect_graph, missing_kernels

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])


@pytest.fixture(scope="module")
def runtime() -> RuntimeOperators:
    return runtime_operators()


def node(op, x="x", y="y", domain="", **attributes):
    return helper.make_node(op, [x], [y], name="foo", domain=domain, **attributes)


def weight(name="w", **fields):
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [2], [1, 2])
    for field, value in fields.items():
        setattr(tensor, field, value)
    return tensor


def outside(name="w"):
    """A weight that lies in another file."""
    tensor = TensorProto(name=name, dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")
    return tensor


def graph(*nodes, opsets=(("", 14),), initializer=(), functions=()):
    made = helper.make_graph(list(nodes), "g", [X], [Y], list(initializer))
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    model = helper.make_model(made, opset_imports=imports, ir_version=8, functions=list(functions))
    return model.SerializeToString()


def branch(op, **attributes):
    """A body of an If that runs one operator on the outer x."""
    return helper.make_graph([node(op, "x", "inner", **attributes)], "b", [], [Y])


def chosen(op):
    """A graph that has `op` two graphs deep."""
    inner = helper.make_node("If", ["x"], ["y"], then_branch=branch(op), else_branch=branch("Neg"))
    deep = helper.make_graph([inner], "outer", [], [Y])
    return node("If", then_branch=deep, else_branch=branch("Neg"))


def refusal(data, runtime):
    with pytest.raises(CompatibilityError) as caught:
        inspect_graph(data, "m/model.onnx", runtime=runtime)
    assert caught.value.file == "m/model.onnx"
    return caught.value.message.removeprefix("m/model.onnx: ")


def test_facts_of_an_int8_model(root, runtime):
    data = (root / "models/builtin-vad/model_quant.onnx").read_bytes()
    facts = inspect_graph(data, "vad", runtime=runtime)
    assert (facts.ir_version, dict(facts.opsets)) == (7, {"ai.onnx": 14})
    assert (facts.operators["MatMulInteger"], facts.quantised) == (12, "dynamic_int8")
    assert 0.8 * len(data) < facts.weights_bytes < len(data)


@pytest.mark.parametrize(
    ("op", "domain", "quantised"),
    [
        ("Relu", "", "none"),
        ("DequantizeLinear", "", "static_int8"),
        ("MatMulNBits", "com.microsoft", "weights_only"),
        ("DynamicQuantizeMatMul", "com.microsoft", "dynamic_int8"),
    ],
)
def test_the_kind_of_quantisation_is_told_by_the_operators(runtime, op, domain, quantised):
    data = graph(node(op, domain=domain), opsets=(("", 14), ("com.microsoft", 1)))
    assert inspect_graph(data, "m", runtime=runtime).quantised == quantised


def test_operators_of_inner_graphs_are_counted(runtime):
    facts = inspect_graph(graph(chosen("Relu")), "m", runtime=runtime)
    assert facts.operators == {"If": 2, "Neg": 2, "Relu": 1}


def test_a_function_of_the_model_counts_as_what_it_is_made_of(runtime):
    imports = [helper.make_opsetid("", 14)]
    twice = helper.make_function("my", "Twice", ["x"], ["y"], [node("Relu")], imports)
    data = graph(node("Twice", domain="my"), opsets=(("", 14), ("my", 1)), functions=[twice])
    assert inspect_graph(data, "m", runtime=runtime).operators == {"Relu": 1}


@pytest.mark.parametrize(
    "data", [b"", b"not a graph", graph(node("Relu"))[:60], graph(), graph(node("Relu"), opsets=())]
)
def test_what_is_no_graph_is_refused(runtime, data):
    assert refusal(data, runtime).startswith("is not an ONNX graph: ")


def test_a_graph_cut_short_anywhere_is_refused(runtime):
    """Up to the opset, which comes last."""
    data = graph(node("Relu"), initializer=[weight()])
    for end in range(len(data) - 4):
        with pytest.raises(CompatibilityError):
            inspect_graph(data[:end], "m", runtime=runtime)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(runtime, data):
    damaged = bytearray(graph(chosen("Relu"), initializer=[weight()]))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CompatibilityError):
        assert inspect_graph(bytes(damaged), "m", runtime=runtime).operators


def test_unknown_operators_are_named_with_their_domain_and_node(runtime):
    data = graph(
        node("Frobnicate", domain="ai.example"), node("Knit"), opsets=(("", 14), ("ai.example", 1))
    )
    assert refusal(data, runtime) == (
        f"ONNX Runtime {runtime.version} does not know Frobnicate (domain ai.example, node "
        '"foo"), Knit (domain ai.onnx, node "foo"); use a newer ONNX Runtime, or export the '
        "model without them"
    )


def test_an_unknown_operator_is_found_in_an_inner_graph(runtime):
    assert "Frobnicate" in refusal(graph(chosen("Frobnicate")), runtime)


def test_an_operator_from_a_later_opset_than_stated_is_told(runtime):
    reason = "Gelu (domain ai.onnx from opset 20, the graph states 14"
    assert reason in refusal(graph(node("Gelu")), runtime)


def test_a_domain_without_an_opset_is_told(runtime):
    reason = "Gelu (domain com.microsoft, of which the graph states no opset"
    assert reason in refusal(graph(node("Gelu", domain="com.microsoft")), runtime)


def test_many_unknown_operators_make_a_message_of_bounded_length(runtime):
    names = [f"Frobnicate{i}" + "x" * 1000 for i in range(100)]
    message = refusal(graph(*(node(name + "\n") for name in names)), runtime)
    assert len(message) < 2000
    assert "and 92 more" in message
    assert "\n" not in message


def test_an_opset_from_the_future_is_refused(runtime):
    assert refusal(graph(node("Relu"), opsets=(("", 99),)), runtime) == (
        f"needs opset 99 of ai.onnx, this runtime knows up to {runtime.max_opset['ai.onnx']}; use "
        f"a newer ONNX Runtime than {runtime.version}, or export with an older opset"
    )


def test_opsets_of_domains_that_are_not_used_do_not_count(runtime):
    """Published graphs state the opsets of every domain that the runtime had when they were
    made."""
    opsets = (("", 14), ("com.ms.internal.nhwc", 99), ("org.pytorch.aten", 1))
    assert inspect_graph(graph(node("Relu"), opsets=opsets), "m", runtime=runtime)


@pytest.mark.parametrize(
    "data",
    [
        graph(node("Relu"), initializer=[outside()]),
        graph(node("Relu"), initializer=[weight(), outside()]),
        graph(node("Constant", value=outside())),
        graph(
            node(
                "If",
                then_branch=branch("Constant", value=outside()),
                else_branch=branch("Neg"),
            )
        ),
    ],
    ids=["initialiser", "second", "attribute", "inner graph"],
)
def test_weights_in_another_file_are_refused(runtime, data):
    assert refusal(data, runtime) == (
        'keeps weights outside of itself ("w" in "../weights.bin"), where they are not verified; '
        "export it with all weights in one file"
    )


def test_a_runtime_that_does_not_tell_its_operators_leaves_the_judgement_to_the_session():
    facts = inspect_graph(graph(node("Frobnicate")), "m", runtime=RuntimeOperators("1.0"))
    assert facts.operators == {"Frobnicate": 1}
    assert missing_kernels(facts, "cuda") == ()


def test_operators_without_a_kernel_of_a_provider_are_named():
    runtime = RuntimeOperators(
        "1.0",
        since={"ai.onnx": {"Relu": (1, 6, 13, 14), "Neg": (1, 13), "Constant": (1, 13)}},
        max_opset={"ai.onnx": 20},
        kernels={
            "cuda": {("ai.onnx", "Relu"): ((13, 13),), ("ai.onnx", "Neg"): ((6, 12), (13, 99))}
        },
    )
    nodes = [node("Relu"), node("Neg"), node("Constant", value=weight())]
    facts = inspect_graph(graph(*nodes), "m", runtime=runtime)
    assert missing_kernels(facts, "cuda") == ("Relu",)
    assert missing_kernels(facts, "cpu") == ()


def test_importing_the_module_loads_neither_onnx_nor_the_runtime():
    code = "import sys, agent.store.inspect_graph, agent.store.derive; "
    code += "print('onnxruntime' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
