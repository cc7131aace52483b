"""Streaming graphs with fewer steps: the same numbers to the last bit, and the steps are gone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.engine import ort
from agent.store.rewrite_lean import lean_by_stream, lean_signed
from agent.store.rewrite_signed import NothingToDo
from tests.unit.store.signed import needs_exact_products

HEADS, DEPTH, TAPS = 2, 8, 11
D = HEADS * DEPTH
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT32


class Builder:
    """Nodes and weights of a graph as FunASR's exporter writes them."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.weights: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def constant(self, name: str, values) -> str:
        self.weights[name] = np.asarray(values)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def product(self, x: str, columns: int, out: str) -> str:
        weight = self.rng.integers(0, 255, (D, columns)).astype(np.uint8)
        self.constant(f"{out}_w", weight)
        self.constant(f"{out}_wz", np.uint8(128))
        self.constant(f"{out}_ws", np.float32(0.01))
        self.constant(f"{out}_b", self.rng.standard_normal(columns).astype(np.float32))
        parts = [f"{out}_q", f"{out}_s", f"{out}_z"]
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], parts))
        self.add("MatMulInteger", [parts[0], f"{out}_w", parts[2], f"{out}_wz"], f"{out}_i")
        self.add("Cast", [f"{out}_i"], f"{out}_f", to=FLOAT)
        self.add("Mul", [parts[1], f"{out}_ws"], f"{out}_factor")
        self.add("Mul", [f"{out}_f", f"{out}_factor"], f"{out}_m")
        return self.add("Add", [f"{out}_b", f"{out}_m"], out)

    def mask(self, lengths: str, out: str) -> str:
        """f32[B, T]: 1 where a frame is none of padding."""
        self.add("ReduceMax", [lengths], f"{out}_max", keepdims=0)
        self.constant("zero", np.int32(0))
        self.constant("step", np.int32(1))
        self.add("Range", ["zero", f"{out}_max", "step"], f"{out}_at")
        self.constant("axis1", [1])
        self.add("Unsqueeze", [lengths, "axis1"], f"{out}_column")
        self.add("Less", [f"{out}_at", f"{out}_column"], f"{out}_less")
        return self.add("Cast", [f"{out}_less"], out, to=FLOAT)

    def heads(self, x: str, axes: list[int], out: str) -> str:
        sizes = []
        self.add("Shape", [x], f"{out}_shape")
        for axis in (0, 1):
            self.constant(f"at{axis}", axis)
            self.constant("axis0", [0])
            self.add("Gather", [f"{out}_shape", f"at{axis}"], f"{out}_size{axis}")
            sizes.append(
                self.add("Unsqueeze", [f"{out}_size{axis}", "axis0"], f"{out}_sizes{axis}")
            )
        sizes += [self.constant("heads", [HEADS]), self.constant("depth", [DEPTH])]
        self.add("Concat", sizes, f"{out}_to", axis=0)
        self.add("Reshape", [x, f"{out}_to"], f"{out}_apart")
        return self.add("Transpose", [f"{out}_apart"], out, perm=axes)

    def attention(self, q: str, k: str, v: str, bias: str, out: str, *, divides: bool) -> str:
        query = self.heads(q, [0, 2, 1, 3], f"{out}_q")
        key = self.heads(k, [0, 2, 3, 1], f"{out}_k")
        value = self.heads(v, [0, 2, 1, 3], f"{out}_v")
        root = np.sqrt(np.float32(DEPTH))
        if divides:
            self.add("MatMul", [query, key], f"{out}_raw")
            scores = self.add("Div", [f"{out}_raw", self.constant("root", root)], f"{out}_scores")
        else:
            self.add("Mul", [query, self.constant("per_root", 1 / root)], f"{out}_scaled")
            scores = self.add("MatMul", [f"{out}_scaled", key], f"{out}_scores")
        self.add("Add", [scores, bias], f"{out}_masked")
        self.add("Softmax", [f"{out}_masked"], f"{out}_shares", axis=-1)
        self.add("MatMul", [f"{out}_shares", value], f"{out}_mixed")
        self.add("Transpose", [f"{out}_mixed"], f"{out}_turned", perm=[0, 2, 1, 3])
        self.constant("whole", [0, 0, D])
        return self.add("Reshape", [f"{out}_turned", "whole"], out)

    def bias(self, mask: str, out: str) -> str:
        self.add("Unsqueeze", [mask, self.constant("axes12", [1, 2])], f"{out}_wide")
        self.add("Sub", [self.constant("one", np.float32(1)), f"{out}_wide"], f"{out}_padded")
        return self.add("Mul", [f"{out}_padded", self.constant("low", np.float32(-1e4))], out)

    def memory(self, x: str, mask: str, out: str, cache: str = "") -> str:
        """FSMN: a depthwise convolution over time, with the mask before and behind it."""
        column = f"{mask}_column3"
        self.add("Unsqueeze", [mask, self.constant("axis2", [2])], column)
        taps = self.rng.standard_normal((D, 1, TAPS)).astype(np.float32)
        self.constant(f"{out}_taps", taps)
        self.add("Mul", [x, column], f"{out}_x")
        self.add("Transpose", [f"{out}_x"], f"{out}_turned", perm=[0, 2, 1])
        if cache:
            self.add("Concat", [f"in_{cache}", f"{out}_turned"], f"out_{cache}", axis=2)
            padded = f"out_{cache}"
        else:
            self.constant("pads", [0, 0, TAPS // 2, 0, 0, TAPS // 2])
            padded = self.add("Pad", [f"{out}_turned", "pads"], f"{out}_padded")
        self.add("Conv", [padded, f"{out}_taps"], f"{out}_conv", group=D, kernel_shape=[TAPS])
        self.add("Transpose", [f"{out}_conv"], f"{out}_back", perm=[0, 2, 1])
        self.add("Add", [f"{out}_back", f"{out}_x"], f"{out}_sum")
        return self.add("Mul", [f"{out}_sum", column], out)

    def model(self, inputs: dict, outputs: dict) -> bytes:
        ports = [
            [helper.make_tensor_value_info(name, *kind) for name, kind in side.items()]
            for side in (inputs, outputs)
        ]
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "g", *ports, weights)
        opset = helper.make_opsetid("", 13)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def encoder() -> bytes:
    b = Builder()
    mask = b.mask("speech_lengths", "mask")
    bias = b.bias(mask, "bias")
    b.product("speech", 3 * D, "qkv")
    b.constant("thirds", [D, D, D])
    b.nodes.append(helper.make_node("Split", ["qkv", "thirds"], ["q", "k", "v"], axis=-1))
    b.memory("v", mask, "remembered")
    b.attention("q", "k", "v", bias, "attended", divides=False)
    b.product("attended", D, "mixed")
    b.add("Add", ["mixed", "remembered"], "enc")
    b.add("Identity", ["speech_lengths"], "enc_len")
    return b.model(
        {"speech": (FLOAT, ["B", "T", D]), "speech_lengths": (INT, ["B"])},
        {"enc": (FLOAT, ["B", "T", D]), "enc_len": (INT, ["B"])},
    )


def decoder() -> bytes:
    b = Builder()
    tokens, frames = b.mask("acoustic_embeds_len", "tokens"), b.mask("enc_len", "frames")
    bias = b.bias(frames, "bias")
    b.memory("acoustic_embeds", tokens, "remembered", cache="cache_0")
    b.product("remembered", D, "q")
    b.product("enc", 2 * D, "kv")
    b.constant("halves", [D, D])
    b.nodes.append(helper.make_node("Split", ["kv", "halves"], ["k", "v"], axis=-1))
    b.attention("q", "k", "v", bias, "attended", divides=True)
    b.product("attended", D, "logits")
    return b.model(
        {
            "enc": (FLOAT, ["B", "T", D]),
            "enc_len": (INT, ["B"]),
            "acoustic_embeds": (FLOAT, ["B", "L", D]),
            "acoustic_embeds_len": (INT, ["B"]),
            "in_cache_0": (FLOAT, ["B", D, TAPS - 1]),
        },
        {"logits": (FLOAT, ["B", "L", D]), "out_cache_0": (FLOAT, ["B", D, "N"])},
    )


def feeds(part: str, frames: int, tokens: int, streams: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frames * 10 + tokens)

    def noise(*shape: int) -> np.ndarray:
        return rng.standard_normal((streams, *shape)).astype(np.float32)

    if part == "encoder":
        return {"speech": noise(frames, D), "speech_lengths": ort.int32(*[frames] * streams)}
    return {
        "enc": noise(frames, D),
        "enc_len": ort.int32(*[frames] * streams),
        "acoustic_embeds": noise(tokens, D),
        "acoustic_embeds_len": ort.int32(*[tokens] * streams),
        "in_cache_0": noise(D, TAPS - 1),
    }


def ran(data: bytes, values: dict) -> dict[str, np.ndarray]:
    return ort.open_graph(data, name="g", threads=1).run(values)


PARTS = {"encoder": encoder, "decoder": decoder}


@needs_exact_products
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("rewrite", [lean_signed, lean_by_stream])
@pytest.mark.parametrize(("frames", "tokens"), [(20, 3), (13, 1), (1, 2)])
def test_a_lean_graph_computes_the_same_numbers(part, rewrite, frames, tokens):
    data = PARTS[part]()
    values = feeds(part, frames, tokens)
    wanted, found = ran(data, values), ran(rewrite(data, part), values)
    for name, value in wanted.items():
        assert np.array_equal(value, found[name]), name


@needs_exact_products
def test_streams_that_share_a_lean_run_get_what_the_original_gives_each_alone():
    shared = feeds("encoder", 20, 0, streams=3)
    together = ran(lean_by_stream(encoder(), "e"), shared)["enc"]
    for at in range(3):
        alone = {name: value[at : at + 1] for name, value in shared.items()}
        assert np.array_equal(ran(encoder(), alone)["enc"][0], together[at])


def operators(data: bytes) -> Counter:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


@pytest.mark.parametrize("part", PARTS)
def test_masks_attention_and_convolution_give_way(part):
    before, after = operators(PARTS[part]()), operators(lean_signed(PARTS[part](), part))
    assert (before["MultiHeadAttention"], after["MultiHeadAttention"]) == (0, 1)
    assert after["Softmax"] == after["Conv"] == after["Less"] == 0
    # The lengths are only handed on.
    assert after["Unsqueeze"] == 1
    # A decoder often has a single token, which the original step serves.
    assert after["If"] == (1 if part == "decoder" else 0)


def test_what_is_no_mask_stays():
    """A product with a value that the audio decides is no mask, nor is one with a weight."""
    b = Builder()
    b.product("speech", D, "x")
    b.add("Mul", ["x", "speech"], "y")
    b.add("Mul", ["y", b.constant("half", np.float32(0.5))], "z")
    b.add("Cast", ["speech_lengths"], "seconds", to=FLOAT)
    b.add("Mul", ["z", "seconds"], "enc")
    inputs = {"speech": (FLOAT, ["B", "T", D]), "speech_lengths": (INT, ["B"])}
    data = b.model(inputs, {"enc": (FLOAT, ["B", "T", D])})
    with pytest.raises(NothingToDo, match="no step"):
        lean_signed(data, "g")


def test_a_graph_without_int8_is_left_as_it_is():
    b = Builder()
    b.add("Relu", ["speech"], "enc")
    data = b.model({"speech": (FLOAT, ["B", D])}, {"enc": (FLOAT, ["B", D])})
    for rewrite in (lean_signed, lean_by_stream):
        with pytest.raises(NothingToDo):
            rewrite(data, "g")
