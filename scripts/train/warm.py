"""Weights of a published int8 folder as a start for training: what the graphs keep, dequantised.

The head of CTC and the embedding that the sampler uses are not in the graphs. Weights that read
speech already need neither: `training` then leaves both out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from .vad_data import read_mvn

_MISSING = ("ctc.", "decoder.embed.")


def _module(node: str) -> str:
    """The module path of a product's node: repeated list names fall together."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def _products(graph: onnx.GraphProto, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of linear layers by parameter name, as torch has them (out, in)."""
    found: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in stored:
            name = node.input[1].removesuffix("_quantized")
            whole = stored[node.input[1]].astype(np.float32)
            zero = stored[node.input[3]].astype(np.float32)
            found[_module(node.name)] = ((whole - zero) * stored[f"{name}_scale"]).T
        elif node.op_type == "MatMul" and node.input[1] in stored:
            found[_module(node.name)] = stored[node.input[1]].T
    return {f"{name}.weight": value for name, value in found.items()}


def _parameters(path: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(str(path)).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    kept = {name.replace(".model.", ".", 1): value for name, value in stored.items()}
    return kept | _products(graph, stored)


def state(model: torch.nn.Module, folder: Path) -> dict[str, torch.Tensor]:
    """A state for `model` from the graphs of `folder`. Raises ValueError where one is missing."""
    values: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*_quant.onnx")):
        values |= _parameters(path)
    fresh = dict(model.state_dict())
    for name, old in fresh.items():
        short = name.split(".", 1)[1]
        if name not in values and short in values:
            values[name] = values[short]
        if name in values and values[name].shape == tuple(old.shape):
            fresh[name] = torch.from_numpy(np.array(values[name], np.float32))
        elif not name.startswith(_MISSING):
            shape = values[name].shape if name in values else "nothing"
            raise ValueError(f"{folder}: {name} {tuple(old.shape)} has {shape}")
    return fresh


def mix(model: torch.nn.Module, weights: Path, folder: Path, share: float, out: Path) -> None:
    """Write the mean of trained weights (`share`) and those of `folder` that they came from.

    A short training on new material forgets some of the old: the mean reads both better.
    """
    trained = torch.load(weights)
    before = state(model, folder)
    mean = {
        name: share * value + (1 - share) * before[name]
        if value.is_floating_point() and not name.startswith(_MISSING)
        else value
        for name, value in trained.items()
    }
    torch.save(mean, out)


def write_statistics(folder: Path, cmvn: Path) -> None:
    """Take over the normalisation that those weights were trained with."""
    shift, scale = read_mvn(folder / "am.mvn")
    np.savez(cmvn, shift=shift, scale=scale)
