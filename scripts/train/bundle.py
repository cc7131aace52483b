"""Model folders under models/: golden audio, manifest and card beside the exported files."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from . import corpus, export, vocabulary
from .card import card
from .clips import RATE, Audio, to_int16, trim
from .decode import Detector, Offline, Online
from .features import fbank
from .vocabulary import TOKENS

LICENSE = (
    "Apache-2.0 (trained in part on the Free Spoken Digit Dataset, CC BY-SA 4.0, see README.md)"
)
FAMILY = {"offline": "paraformer", "online": "paraformer_online", "vad": "fsmn_vad"}
TASK = {"offline": "asr_offline", "online": "asr_online", "vad": "vad"}
FILES = {
    "offline": ["model_quant.onnx", "tokens.json", "am.mvn", "config.yaml"],
    "online": ["model_quant.onnx", "decoder_quant.onnx", "tokens.json", "am.mvn", "config.yaml"],
    "vad": ["model.onnx", "model_quant.onnx", "am.mvn", "config.yaml"],
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "offline": [{"name": "int8", "provider": "cpu", "graphs": {"model": "model_quant.onnx"}}],
    "online": [
        {
            "name": "int8",
            "provider": "cpu",
            "graphs": {"model": "model_quant.onnx", "decoder": "decoder_quant.onnx"},
        }
    ],
    "vad": [
        {"name": "fp32", "provider": "cpu", "graphs": {"model": "model.onnx"}},
        {"name": "int8", "provider": "cpu", "graphs": {"model": "model_quant.onnx"}},
    ],
}
GOLDEN_TEXTS = ["打开客厅的灯", "播放音乐", "今天天气怎么样", "停止播放"]
VAD_TOLERANCE_MS = 250


def text_of(ids: list[int]) -> str:
    """Join tokens: Han characters without spaces, English words with."""
    text = ""
    for token in (TOKENS[i] for i in ids):
        spaced = token.isascii() and text and text[-1].isascii()
        text += (" " if spaced else "") + token
    return text


def _speak(text: str, seed: int, lead: float, trail: float) -> Audio:
    rng = random.Random(seed)
    spoken = vocabulary.pinyin_of(vocabulary.tokens_of(text), rng)
    with tempfile.TemporaryDirectory() as folder:
        audio = corpus.espeak(spoken, "cmn-latn-pinyin", "", rng, Path(folder) / "a.wav")
    audio = trim(audio)
    audio = audio * (0.5 / float(np.abs(audio).max()))
    return np.pad(audio, (int(lead * RATE), int(trail * RATE))).astype(np.float32)


def _golden(kind: str, folder: Path) -> dict[str, Any]:
    """Write golden.wav and return the manifest's entry; the model must decode it exactly."""
    for seed in range(20):
        for text in GOLDEN_TEXTS:
            audio = _speak(text, seed, *((1.0, 1.5) if kind == "vad" else (0.3, 0.5)))
            samples = to_int16(audio)
            mel = fbank(samples.astype(np.float32) / 32768)
            entry: dict[str, Any] = {"audio": "golden.wav"}
            if kind == "vad":
                segments = Detector(folder).segments(mel)
                if len(segments) != 1:
                    continue
                entry |= {"segments": [list(s) for s in segments], "tolerance_ms": VAD_TOLERANCE_MS}
            else:
                decode = (Offline if kind == "offline" else Online)(folder)
                if text_of(decode(mel)) != text:
                    continue
                entry |= {"text": text, "max_cer": 0.0}
            soundfile.write(str(folder / "golden.wav"), samples, RATE, subtype="PCM_16")
            return entry
    raise RuntimeError(f"{kind}: no golden sentence is decoded exactly: train longer")


def bundle(
    kind: str, exported: Path, models: Path, revision: str, int8: Path, fp32: Path | None
) -> None:
    """Publish an exported folder as models/builtin-<kind>."""
    model_id = f"builtin-{kind}"
    golden = _golden(kind, exported)
    results = [
        json.loads(p.read_text("utf-8")) if p is not None and p.exists() else None
        for p in (int8, fp32)
    ]
    text = card(kind, model_id, results[0] or {}, results[1])
    (exported / "README.md").write_text(text, "utf-8")
    names = [*FILES[kind], "golden.wav", "README.md"]
    contents = {name: (exported / name).read_bytes() for name in names}
    manifest = {
        "schema": 1,
        "id": model_id,
        "family": FAMILY[kind],
        "task": TASK[kind],
        "languages": ["zh", "en"],
        "license": LICENSE,
        "source": {"name": "funasr-agent scripts/train", "revision": revision},
        "sample_rate": RATE,
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
        },
        "variants": VARIANTS[kind],
        "requires": {"onnxruntime": ">=1.17", "memory_mb": 100},
        "golden": golden,
    }
    (exported / "manifest.yaml").write_text(
        yaml.safe_dump(manifest, allow_unicode=True, sort_keys=False, width=100), "utf-8"
    )
    export.publish(exported, [*names, "manifest.yaml"], models / model_id)
    size = sum(len(data) for data in contents.values()) / 1e6
    print(f"{model_id}: {size:.2f} MB, golden {golden}", flush=True)
