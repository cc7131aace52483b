"""Export of trained weights through FunASR's exporter, in the layout that FunASR's tools load."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from . import asr, vad
from .vocabulary import TOKENS

OPSET = 14
FRONTEND = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "dither": 0.0,
}


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


def write_mvn(path: Path, cmvn: Path) -> None:
    """Write the normalisation in Kaldi's text form, as FunASR reads it."""
    stored = np.load(cmvn)
    width = len(stored["shift"])
    lines = [
        "<Nnet>",
        f"<Splice> {width} {width}",
        "[ 0 ]",
        f"<AddShift> {width} {width}",
        "<LearnRateCoef> 0 [ " + " ".join(f"{v:.6f}" for v in stored["shift"]) + " ]",
        f"<Rescale> {width} {width}",
        "<LearnRateCoef> 0 [ " + " ".join(f"{v:.6f}" for v in stored["scale"]) + " ]",
        "</Nnet>",
    ]
    path.write_text("\n".join(lines) + "\n")


def _run_exporter(model: torch.nn.Module, arguments: dict[str, Any], folder: Path) -> None:
    from funasr.utils.export_utils import export

    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with _classic_exporter(), torch.no_grad():
            export(
                model.eval(),
                type="onnx",
                quantize=True,
                output_dir=str(folder),
                init_param="",
                device="cpu",
                max_seq_len=512,
                opset_version=OPSET,
                **copy.deepcopy(arguments),
            )
    finally:
        logging.disable(level)


def _dump(path: Path, configuration: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(configuration, allow_unicode=True, sort_keys=False), "utf-8")


def export_asr(kind: str, weights: Path, cmvn: Path, folder: Path) -> None:
    """Write a recogniser's graphs (fp32 and int8), tokens, statistics and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    model = asr.build_model(kind)
    model.load_state_dict(torch.load(weights))
    _run_exporter(model, asr.model_arguments(kind), folder)
    (folder / "tokens.json").write_text(
        json.dumps(TOKENS, ensure_ascii=False, indent=0) + "\n", "utf-8"
    )
    write_mvn(folder / "am.mvn", cmvn)
    frontend = "WavFrontendOnline" if kind == "online" else "WavFrontend"
    extra = {
        "frontend": frontend,
        "frontend_conf": FRONTEND | {"lfr_m": 7, "lfr_n": 6},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    _dump(folder / "config.yaml", asr.configuration(kind) | extra)


def export_vad(weights: Path, cmvn: Path, folder: Path) -> None:
    """Write the detector's streaming graph (fp32 and int8), statistics and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    model = vad.build_model()
    model.load_state_dict(torch.load(weights))
    _run_exporter(model, vad.model_arguments(), folder)
    write_mvn(folder / "am.mvn", cmvn)
    extra = {
        "frontend": "WavFrontendOnline",
        "frontend_conf": FRONTEND | {"lfr_m": 5, "lfr_n": 1},
    }
    _dump(folder / "config.yaml", vad.configuration() | extra)


def publish(source: Path, files: list[str], target: Path) -> None:
    """Replace the folder `target` by one with `files` of `source`, complete at every moment."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    fresh.chmod(0o755)
    for name in files:
        shutil.copyfile(source / name, fresh / name)
    if target.exists():
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-"))
        target.rename(old / "old")
        fresh.rename(target)
        shutil.rmtree(old)
    else:
        fresh.rename(target)
