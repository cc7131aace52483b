"""A FunASR checkpoint folder with seeded weights: model.pt, config.yaml and the side files."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from agent.types import Int16

from .architectures import Architecture, Config
from .configuration import configuration
from .graphs import open_checkpoint, quiet
from .side_files import write_side_files
from .weights import settle

WEIGHTS = "model.pt"


def make_checkpoint(
    architecture: Architecture,
    folder: Path,
    clips: Sequence[Int16],
    texts: Sequence[str],
    args: argparse.Namespace,
) -> None:
    """Fill `folder`; funasr's AutoModel opens it as it opens a published one.

    The voice detector takes the published weights where its graph is beside `--configs`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(architecture, args.configs, small=args.small)
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    (folder / "config.yaml").write_text(text, "utf-8")
    write_side_files(architecture, config, args.configs, folder, small=args.small)
    torch.set_num_threads(args.threads)
    torch.save(_random(config, folder, args.seed), folder / WEIGHTS)
    model = open_checkpoint(folder, args.threads)
    graph = args.configs.parent / "models" / architecture.name / "model.onnx"
    if architecture.name == "fsmn-vad" and graph.is_file() and not args.small:
        model.model.load_state_dict(_vad_weights(graph))
    else:
        with quiet():
            settle(model, clips, texts)
    torch.save(model.model.state_dict(), folder / WEIGHTS)


def _random(config: Config, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    from funasr.auto.auto_model import AutoModel

    paths = json.loads((folder / "configuration.json").read_text("utf-8"))["file_path_metas"]
    arguments: dict[str, Any] = copy.deepcopy(config)
    for section in ("tokenizer_conf", "frontend_conf"):
        if section in arguments:
            found = {key: str(folder / name) for key, name in paths.get(section, {}).items()}
            arguments[section] |= found
    with quiet():
        model, _ = AutoModel.build_model(
            **arguments, seed=seed, device="cpu", ncpu=torch.get_num_threads()
        )
    return dict(model.state_dict())


def _vad_weights(graph: Path) -> dict[str, torch.Tensor]:
    """State of FSMN-VAD from its exported graph: the exporter stores each product's weight
    transposed and without its name, in the order of the layers."""
    import onnx
    from onnx import numpy_helper

    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(graph).graph.initializer}
    state = {name: value for name, value in stored.items() if name.startswith("encoder.")}
    layers = ["encoder.in_linear1", "encoder.in_linear2"]
    for i in range(sum("conv_left" in name for name in state)):
        layers += [f"encoder.fsmn.{i}.linear", f"encoder.fsmn.{i}.affine"]
    layers += ["encoder.out_linear1", "encoder.out_linear2"]
    products = [value for name, value in stored.items() if name not in state]
    for layer, weight in zip(layers, products, strict=True):
        state[f"{layer}.linear.weight"] = weight.T
    return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in state.items()}
