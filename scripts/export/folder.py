"""The exported folder as a model of the agent: golden audio, manifest.yaml, report.json."""

from __future__ import annotations

import hashlib
import importlib
import math
import shutil
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from agent.engine.base import EngineSettings
from agent.store.adopt import adopt
from agent.store.golden import SENTENCES, character_error_rate
from agent.store.known import KnownModel
from agent.store.manifest import parse_manifest
from agent.types import SAMPLE_RATE, Int16, StreamOptions

from .compare import ExportFolder, variant_folder
from .variants import SUFFIXES

GOLDEN = "golden.wav"
MANIFEST = "manifest.yaml"
SIDE_FILES = ("config.yaml", "configuration.json", "tokens.json", "am.mvn", "seg_dict", "README.md")
_FAMILIES = (
    "paraformer",
    "paraformer_online",
    "sensevoice",
    "fsmn_vad",
    "ct_punctuation",
    "ct_punctuation_realtime",
)
_LICENCE_OF_NOTHING = "none (random weights)"
_VAD_TOLERANCE_MS = 100


def copy_side_files(checkpoint: Path, out: Path) -> None:
    """Everything of a checkpoint that its graphs need at run time."""
    names = [*SIDE_FILES, *(path.name for path in checkpoint.glob("*.bpe.model"))]
    for name in names:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, out / name)


def write_manifest(
    folder: Path,
    model_id: str | None,
    roles: Sequence[str],
    variants: Sequence[str],
    clip: Int16,
    *,
    seed: int | None,
    recorded: str | None,
    threads: int,
) -> dict[str, Any]:
    """Write golden.wav and manifest.yaml; returns the manifest's golden entry.

    Without a `model_id` the id is made of the folder's name, or is the published one.
    `recorded` is what funasr itself made of the clip, for families that the agent has no code
    for yet. `seed` is that of random weights, None for a real checkpoint.
    """
    published: dict[str, KnownModel] | None = None if seed is None else {}
    adopted = adopt(folder, model_id=model_id, families=_FAMILIES, published=published)
    tree = yaml.safe_load(adopted.manifest)
    tree["id"] = model_id or adopted.id
    if seed is not None:
        tree |= {
            "license": _LICENCE_OF_NOTHING,
            "source": {"name": "scripts/export_models.py", "revision": f"random, seed {seed}"},
        }
    if "int8-s8" in variants:
        entry = variant_folder(folder, roles, "int8-s8")
        tree["variants"].append(
            {"name": "int8-s8", "provider": "cpu", "graphs": dict(entry.graphs)}
        )
        tree["files"] |= {name: _listed(folder / name) for name in entry.graphs.values()}
    golden = _golden(folder, tree["family"], roles, variants, clip, recorded, threads)
    tree["golden"] = golden
    if tree["task"] != "punctuation":
        _write_wav(folder / GOLDEN, clip)
        tree["files"][GOLDEN] = _listed(folder / GOLDEN)
    data = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100).encode()
    parse_manifest(data, folder)
    (folder / MANIFEST).write_bytes(data)
    return golden


def _golden(
    folder: Path,
    family: str,
    roles: Sequence[str],
    variants: Sequence[str],
    clip: Int16,
    recorded: str | None,
    threads: int,
) -> dict[str, Any]:
    """What the first variant says; the others may differ from it by as much as they do now."""
    try:
        code = importlib.import_module(f"agent.engine.families.{family}")
    except ModuleNotFoundError:
        return {"audio": GOLDEN, "text": recorded or "", "max_cer": 0.5}
    ordered = sorted(variants, key=list(SUFFIXES).index)
    if family == "fsmn_vad":
        files = variant_folder(folder, roles, ordered[0])
        stream = code.load(files, EngineSettings(threads=threads)).start_stream()
        marks = [*stream.accept(clip), *stream.finish()]
        starts = [mark.ms for mark in marks if mark.kind == "start"]
        ends = [mark.ms for mark in marks if mark.kind == "end"]
        segments = [list(pair) for pair in zip(starts, ends, strict=True)]
        return {"audio": GOLDEN, "segments": segments, "tolerance_ms": _VAD_TOLERANCE_MS}
    first = "int8" if "int8" in variants else ordered[0]
    texts = {
        variant: _text(code, variant_folder(folder, roles, variant), clip, threads)
        for variant in ordered
    }
    worst = max(character_error_rate(text, texts[first]) for text in texts.values())
    given = {"input": SENTENCES} if code.TASK == "punctuation" else {"audio": GOLDEN}
    return {**given, "text": texts[first], "max_cer": math.ceil(worst * 1000) / 1000}


def _text(code: Any, files: ExportFolder, clip: Int16, threads: int) -> str:
    model = code.load(files, EngineSettings(threads=threads))
    if code.TASK == "punctuation":
        return str(model.punctuate(SENTENCES))
    if hasattr(model, "start_stream"):
        stream = model.start_stream(StreamOptions())
        stream.accept(clip)
        return str(stream.finish().text)
    return str(model.decode([clip], StreamOptions())[0].text)


def _write_wav(path: Path, samples: Int16) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def _listed(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
        if digest is None:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}
