"""FunASR's own exporter, kept to the settings that its published graphs were made with."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

OPSET = 14
_MAX_FRAMES = 512
"""Of the tracing example only: graphs take any length."""


def open_checkpoint(folder: Path, threads: int) -> Any:
    """The checkpoint as funasr's AutoModel, on the CPU, without a look at the network."""
    from funasr import AutoModel

    with quiet():
        return AutoModel(
            model=str(folder.resolve()),
            device="cpu",
            ncpu=threads,
            disable_update=True,
            disable_pbar=True,
            disable_log=True,
        )


def export_graphs(model: Any, folder: Path, *, int8: bool) -> dict[str, float]:
    """Write the fp32 graphs, and with `int8` those of the published recipe (`*_quant.onnx`).

    Returns the seconds it took.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with quiet(), _classic_exporter(), _sizes_of_the_model():
        model.export(
            type="onnx",
            quantize=int8,
            output_dir=str(folder),
            init_param="",
            device="cpu",
            max_seq_len=_MAX_FRAMES,
            opset_version=OPSET,
        )
    return {"export_s": round(time.perf_counter() - started, 1)}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep funasr's notices off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


@contextmanager
def _classic_exporter() -> Iterator[None]:
    """Make torch.onnx.export use its TorchScript exporter, which FunASR's models need."""
    original = torch.onnx.export

    def classic(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **({"dynamo": False} | kwargs))

    torch.onnx.export = classic
    try:
        yield
    finally:
        torch.onnx.export = original


@contextmanager
def _sizes_of_the_model() -> Iterator[None]:
    """Exporters of the hotword models write the published sizes (512, NO_BIAS 8377) as literals;
    let them use the model's own, so that other sizes export too."""
    from funasr.models.contextual_paraformer import export_meta as contextual
    from funasr.models.seaco_paraformer import export_meta as seaco

    def inputs(self: Any) -> tuple[torch.Tensor, ...]:
        speech, lengths, _ = originals[0](self)
        return speech, lengths, torch.randn(2, 1, self.encoder._output_size)

    def forward(self: Any, *args: Any) -> Any:
        self.NOBIAS = self.NO_BIAS
        return originals[2](self, *args)

    names: list[tuple[ModuleType, str, Any]] = [
        (contextual, "export_backbone_dummy_inputs", inputs),
        (seaco, "export_backbone_dummy_inputs", inputs),
        (seaco, "export_backbone_forward", forward),
    ]
    originals = [getattr(module, name) for module, name, _ in names]
    for module, name, function in names:
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name, _), original in zip(names, originals, strict=True):
            setattr(module, name, original)
