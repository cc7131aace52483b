"""Folders of small models that pass every level, for tests that then break them."""

from __future__ import annotations

import hashlib
import wave
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .graphs import ASR_CONFIG, ASR_DIM, VAD_CONFIG, VAD_DIM, mvn, tiny_paraformer, tiny_vad

Files = dict[str, bytes]


def vad_files(**changes: bytes) -> Files:
    """A VAD by its files; `changes` by name with `_` for `.`."""
    files = {"model.onnx": tiny_vad(), "config.yaml": VAD_CONFIG, "am.mvn": mvn(VAD_DIM)}
    return {**files, **{name.replace("_", "."): data for name, data in changes.items()}}


def asr_files(**changes: bytes) -> Files:
    """An offline recogniser by its files."""
    files = {
        "model.onnx": tiny_paraformer(),
        "config.yaml": ASR_CONFIG,
        "am.mvn": mvn(ASR_DIM),
        "tokens.json": b'["<blank>", "a", "<unk>"]',
    }
    return {**files, **{name.replace("_", "."): data for name, data in changes.items()}}


def write_model(parent: Path, model_id: str, files: Files, **more: Any) -> Path:
    """`parent`/`model_id` with the files and a manifest that lists them."""
    folder = parent / model_id
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.yaml").write_bytes(manifest_bytes(model_id, files, **more))
    return folder


def manifest_bytes(model_id: str, files: Files, **more: Any) -> bytes:
    """manifest.yaml; a recogniser where there are tokens, else a VAD."""
    asr = "tokens.json" in files
    tree = {
        "schema": 1,
        "id": model_id,
        "family": "paraformer" if asr else "fsmn_vad",
        "task": "asr_offline" if asr else "vad",
        "license": "none",
        "sample_rate": 16000,
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        },
        "variants": [{"name": "fp32", "provider": "cpu", "graphs": {"model": "model.onnx"}}],
        "requires": {"memory_mb": 1},
        **more,
    }
    return yaml.safe_dump(tree, sort_keys=False).encode()


def tone_wav(silence_ms: int = 1000, tone_ms: int = 1000) -> bytes:
    """Silence, a loud tone of many overtones, silence: 16 kHz mono."""
    time = np.arange(16 * tone_ms) / 16000
    loud = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 40)) * 6000
    still = np.zeros(16 * silence_ms, np.int16)
    samples = np.concatenate([still, loud.astype(np.int16), still])
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return out.getvalue()
