"""A model folder with small real ONNX graphs, and a loader that really runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from onnx import TensorProto, helper

MakeModel = Callable[..., Path]


def graph_bytes(offset: float = 1.0) -> bytes:
    """A graph that adds `offset` to its input."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "offset"], ["y"])],
        "add",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [helper.make_tensor("offset", TensorProto.FLOAT, [1], [offset])],
    )
    opset = [helper.make_opsetid("", 14)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def listed(data: bytes) -> dict[str, Any]:
    """What a manifest says of a file with this content."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a sound model under `tmp_path`/models and returns its folder."""

    def make(model_id: str = "one", *, task: str = "vad", offset: float = 1.0, **more: Any) -> Path:
        folder = tmp_path / "models" / model_id
        folder.mkdir(parents=True)
        files = {
            "model_quant.onnx": graph_bytes(offset),
            "model.onnx": graph_bytes(offset),
            "vocabulary/tokens.json": b'["<blank>", "a", "<unk>"]',
            "am.mvn": b"<AddShift>",
        }
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        manifest = {
            "schema": 1,
            "id": model_id,
            "family": "adder",
            "task": task,
            "license": "none",
            "sample_rate": 16000,
            "files": {name: listed(data) for name, data in files.items()},
            "variants": [
                {"name": "fp32", "provider": "cuda", "graphs": {"model": "model.onnx"}},
                {"name": "int8", "provider": "cpu", "graphs": {"model": "model_quant.onnx"}},
            ],
            **more,
        }
        write_manifest(folder, manifest)
        return folder

    return make
