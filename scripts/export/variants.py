"""The forms of an exported model beside fp32 and the published int8."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from agent.store.rewrite import to_fp16

VARIANTS = ("fp32", "int8", "int8-s8", "fp16")
SUFFIXES = {"fp32": "", "int8": "_quant", "int8-s8": "_quant_s8", "fp16": "_fp16"}
"""Variant -> what comes between a graph's role and `.onnx`."""
_OFFSET = 128


def make_variant(folder: Path, roles: list[str], variant: str) -> None:
    """Write the graphs of a variant from those of fp32 and int8 in `folder`.

    The hotword encoder has no product that is quantised, so it stays fp32 in every variant.
    """
    for role in roles:
        target = folder / f"{role}{SUFFIXES[variant]}.onnx"
        if variant == "fp16":
            fp32 = folder / f"{role}.onnx"
            target.write_bytes(to_fp16(fp32.read_bytes(), fp32.name))
        elif variant == "int8-s8":
            target.write_bytes(to_signed((folder / f"{role}_quant.onnx").read_bytes()))
        gc.collect()


def to_signed(data: bytes) -> bytes:
    """The same dynamic int8 graph with signed weights: weight and zero point less 128.

    Products of integers see only the difference of the two, so no number changes; kernels for
    signed weights are faster where the CPU has VNNI.
    """
    model = onnx.ModelProto.FromString(data)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {
        name
        for node in model.graph.node
        if node.op_type == "MatMulInteger"
        for name in (node.input[1], *node.input[3:4])
    }
    for name in names & {*constants}:
        values = numpy_helper.to_array(constants[name])
        if values.dtype == np.uint8:
            signed = (values.astype(np.int16) - _OFFSET).astype(np.int8)
            constants[name].CopyFrom(numpy_helper.from_array(signed, name))
    return bytes(model.SerializeToString())


def describe_graph(path: Path) -> dict[str, object]:
    """Inputs, outputs, opset and size of a graph file, for the report."""
    model = onnx.load(path, load_external_data=False)

    def ports(values: object) -> dict[str, str]:
        return {value.name: _port(value) for value in values}  # type: ignore[attr-defined]

    return {
        "bytes": path.stat().st_size,
        "opset": next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        "nodes": len(model.graph.node),
        "inputs": ports(model.graph.input),
        "outputs": ports(model.graph.output),
    }


def _port(value: onnx.ValueInfoProto) -> str:
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    dims = (d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)
    return f"{kind}[{', '.join(dims)}]"
