"""Small real ONNX graphs that do what a family expects of a model, by energy alone.

`tiny_vad` hears speech in loud frames; `tiny_paraformer` reads one `a` for every few loud frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOUD = 9.0
"""Mean of the log energies from which a frame counts as speech; silence is far below."""
VAD_DIM, ASR_DIM = 400, 560
FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


def tiny_vad(
    *, op: str = "Sigmoid", input_name: str = "speech", slope: float = 2.0, opset: int = 14
) -> bytes:
    """speech [1,T,400], in_cache0 -> logits [1,T,2] (silence, speech), out_cache0."""
    nodes = [
        helper.make_node("ReduceMean", [input_name], ["energy"], axes=[2], keepdims=1),
        helper.make_node("Sub", ["energy", "loud"], ["above"]),
        helper.make_node("Mul", ["above", "slope"], ["steep"]),
        helper.make_node(op, ["steep"], ["speaking"]),
        helper.make_node("Sub", ["one", "speaking"], ["silent"]),
        helper.make_node("Concat", ["silent", "speaking"], ["logits"], axis=2),
        helper.make_node("Identity", ["in_cache0"], ["out_cache0"]),
    ]
    cache = [1, 2, 3, 1]
    return _graph(
        nodes,
        [(input_name, FLOAT, [1, "T", VAD_DIM]), ("in_cache0", FLOAT, cache)],
        [("logits", FLOAT, [1, "T", 2]), ("out_cache0", FLOAT, cache)],
        {"loud": [LOUD], "slope": [slope], "one": [1.0]},
        opset,
    )


def tiny_paraformer(*, tokens: int = 3, frames_a_token: float = 4.0) -> bytes:
    """speech [B,T,560], speech_lengths -> logits [B,T,tokens] (always token 1), token_num."""
    nodes = [
        helper.make_node("ReduceMean", ["speech"], ["energy"], axes=[2], keepdims=0),
        helper.make_node("Greater", ["energy", "loud"], ["above"]),
        helper.make_node("Cast", ["above"], ["counted"], to=FLOAT),
        helper.make_node("ReduceSum", ["counted", "axis"], ["frames"], keepdims=0),
        helper.make_node("Div", ["frames", "each"], ["number"]),
        helper.make_node("Cast", ["number"], ["token_num"], to=INT32),
        helper.make_node("MatMul", ["speech", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "bias"], ["logits"]),
    ]
    bias = np.zeros(tokens, np.float32)
    bias[1] = 1.0
    return _graph(
        nodes,
        [("speech", FLOAT, ["B", "T", ASR_DIM]), ("speech_lengths", INT32, ["B"])],
        [("logits", FLOAT, ["B", "T", tokens]), ("token_num", INT32, ["B"])],
        {
            "loud": [LOUD],
            "each": [frames_a_token],
            "axis": np.array([1], np.int64),
            "zeros": np.zeros((ASR_DIM, tokens), np.float32),
            "bias": bias,
        },
        14,
    )


def mvn(dim: int) -> bytes:
    """am.mvn that changes nothing."""
    zeros, ones = " ".join(["0"] * dim), " ".join(["1"] * dim)
    return (
        f"<Nnet>\n<AddShift> {dim} {dim}\n<LearnRateCoef> 0 [ {zeros} ]\n"
        f"<Rescale> {dim} {dim}\n<LearnRateCoef> 0 [ {ones} ]\n</Nnet>\n"
    ).encode()


VAD_CONFIG = b"""\
frontend: WavFrontendOnline
frontend_conf: {fs: 16000, window: hamming, n_mels: 80, frame_length: 25, frame_shift: 10,
  lfr_m: 5, lfr_n: 1}
model: FsmnVADStreaming
model_conf: {sil_pdf_ids: [0]}
"""
ASR_CONFIG = b"""\
frontend: WavFrontend
frontend_conf: {fs: 16000, window: hamming, n_mels: 80, frame_length: 25, frame_shift: 10,
  lfr_m: 7, lfr_n: 6}
model: Paraformer
model_conf: {predictor_bias: 0}
"""


def _graph(
    nodes: list[Any],
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    constants: dict[str, Any],
    opset: int,
) -> bytes:
    initializers = [
        numpy_helper.from_array(
            value if isinstance(value, np.ndarray) else np.array(value, np.float32), name
        )
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def large_paraformer(megabytes: int, rng: np.random.Generator, width: int = 2048) -> bytes:
    """`tiny_paraformer` with a stack of dynamic int8 layers whose result adds nothing."""
    layers = max(1, megabytes * 2**20 // (width * width))
    nodes = [helper.make_node("MatMul", ["speech", "widen"], ["x0"])]
    constants: dict[str, Any] = {"widen": np.full((ASR_DIM, width), 0.001, np.float32)}
    for i in range(layers):
        constants[f"w{i}"] = rng.integers(0, 255, (width, width), dtype=np.uint8)
        constants[f"z{i}"] = np.array(128, np.uint8)
        constants[f"s{i}"] = np.array(1e-4, np.float32)
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [f"x{i}"], [f"q{i}", f"r{i}", f"o{i}"]),
            helper.make_node("MatMulInteger", [f"q{i}", f"w{i}", f"o{i}", f"z{i}"], [f"m{i}"]),
            helper.make_node("Cast", [f"m{i}"], [f"c{i}"], to=FLOAT),
            helper.make_node("Mul", [f"r{i}", f"s{i}"], [f"t{i}"]),
            helper.make_node("Mul", [f"c{i}", f"t{i}"], [f"x{i + 1}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", [f"x{layers}"], ["last"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["last", "naught"], ["void"]),
        helper.make_node("Add", ["small", "void"], ["logits"]),
    ]
    constants["naught"] = np.array(0, np.float32)
    return _extended(tiny_paraformer(), nodes, constants)


def _extended(data: bytes, nodes: list[Any], constants: dict[str, Any]) -> bytes:
    """The graph with `logits` renamed to `small`, and more behind it."""
    model = onnx.load_model_from_string(data)
    for node in model.graph.node:
        node.output[:] = ["small" if name == "logits" else name for name in node.output]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    return bytes(model.SerializeToString())
