"""Writes the manifest of a folder as FunASR's exporter and its published repositories lay it out.

What is found in the folder is described; nothing in it is run or changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import agent.engine.families
from agent.engine.side_files import JIEBA_DICTIONARY, NEEDS_JIEBA
from agent.errors import CompatibilityError, ManifestError
from agent.store.funasr_config import (
    CONFIG,
    TOKENS,
    Kind,
    kind_of,
    read_export_config,
    sample_rate,
    token_list,
)
from agent.store.known import KnownModel, published_revision, recognise
from agent.store.manifest import SCHEMA, ListedFile, Variant, is_model_id, parse_manifest
from agent.store.safe_open import BLOCK, Unfit, open_inside, read_small

Progress = Callable[[int], None]
"""Called with the number of bytes hashed since the last call."""

RUNTIME = ">=1.17"
"""The ONNX Runtime that every family works with."""

_HUB_CARD = "configuration.json"
_MAX_HUB_CARD_BYTES = 1 << 20
_MAX_HUB_NAME = 200
_SUFFIXES = {"int8": "_quant", "fp32": "", "fp16": "_fp16"}
"""Precision -> what comes between the graph's role and `.onnx`."""
_ORDER = (
    ("int8", "int8", "cpu"),
    ("fp32", "fp32", "cpu"),
    ("fp32-cuda", "fp32", "cuda"),
    ("fp16", "fp16", "cuda"),
)
"""Name, precision and provider of the variants, the preferred one first."""
_VAD_ORDER = (("fp32", "fp32", "cpu"), ("int8", "int8", "cpu"))
"""The ranges of int8 depend on the hop, so fp32 comes first; a VAD is too small for CUDA."""


@dataclass(frozen=True)
class AdoptedModel:
    """A folder as a model: its manifest, and what goes into the store beside it."""

    id: str
    manifest: bytes
    """manifest.yaml."""
    files: Mapping[str, ListedFile]
    """Every file of the model, those of `extra` included."""
    extra: Mapping[str, bytes] = field(default_factory=dict)
    """Files that are not in the folder but made from it: tokens.json where only config.yaml lists
    the tokens, byte for byte as other repositories publish it."""


def adopt(
    folder: Path,
    *,
    model_id: str | None = None,
    families: Collection[str] | None = None,
    published: Mapping[str, KnownModel] | None = None,
    progress: Progress | None = None,
) -> AdoptedModel:
    """Describe `folder`; every file is hashed, so a large model takes a while.

    A published model, recognised by its hashes, gets its own id; any other gets `model_id`, else
    one made from the folder's name. `families` are those that can be run (default: all of this
    agent), `published` the models to recognise (default: `known_models()`).
    Raises ManifestError (no such folder, files missing, malformed or no regular files) and
    CompatibilityError (a model class that no family runs, no complete set of graphs).
    """
    if not os.path.isdir(folder):
        raise ManifestError("is not a folder; give the folder of a FunASR export", file=str(folder))
    if model_id is not None and not is_model_id(model_id):
        raise ManifestError(
            f"{model_id!r} is not a model id (lower-case letters, digits, '.', '_' and '-')"
        )
    config = read_export_config(folder)
    runnable = _families_here() if families is None else families
    kind = kind_of(config, runnable, str(folder / CONFIG))
    if _is_there(folder, JIEBA_DICTIONARY):
        raise CompatibilityError(NEEDS_JIEBA, file=str(folder / JIEBA_DICTIONARY))
    rate = sample_rate(config, str(folder / CONFIG))
    variants = _variants(folder, kind)
    extra = _extra(folder, kind, config)
    names = _names(folder, kind, variants, extra)
    files = {name: _hashed(folder, name, progress) for name in names}
    files.update({name: _listed(data) for name, data in extra.items()})
    known = recognise(files, kind.family, published)
    found_id = known.id if known else model_id or _id_of(folder)
    tree = {
        "schema": SCHEMA,
        "id": found_id,
        "family": kind.family,
        "task": kind.task,
        **_provenance(folder, known, files),
        "sample_rate": rate,
        "files": {name: {"size": f.size, "sha256": f.sha256} for name, f in files.items()},
        "variants": [
            {"name": v.name, "provider": v.provider, "graphs": dict(v.graphs)} for v in variants
        ],
        "requires": {
            "onnxruntime": RUNTIME,
            "memory_mb": known.requires.memory_mb if known else _memory_mb(variants[0], files),
        },
    }
    data = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100).encode()
    parse_manifest(data, folder)
    return AdoptedModel(found_id, data, files, extra)


def _provenance(
    folder: Path, known: KnownModel | None, files: Mapping[str, ListedFile]
) -> dict[str, Any]:
    """Languages, licence and source: stated for a published model, else not known."""
    if known is None:
        name = _hub_name(folder) or _name_of(folder)
        source = {"name": name, "revision": "unknown"}
        return {"languages": [], "license": "as published", "source": source}
    source = {"name": known.source["name"], "revision": published_revision(known, files)}
    return {"languages": list(known.languages), "license": known.license, "source": source}


def _variants(folder: Path, kind: Kind) -> list[Variant]:
    """One for each complete set of graphs and provider. Raises CompatibilityError if none is."""
    complete: dict[str, dict[str, str]] = {}
    missing: list[str] = []
    for precision, suffix in _SUFFIXES.items():
        if not _is_there(folder, f"model{suffix}.onnx"):
            continue
        graphs = {role: f"{role}{suffix}.onnx" for role in kind.graphs}
        if kind.family == "paraformer" and (embedder := _embedder(folder, suffix)):
            graphs["model_eb"] = embedder
        lacks = [name for name in graphs.values() if not _is_there(folder, name)]
        missing += [f"{name} is missing beside model{suffix}.onnx" for name in lacks]
        if not lacks:
            complete[precision] = graphs
    order = _VAD_ORDER if kind.task == "vad" else _ORDER
    variants = [
        Variant(name, provider, complete[precision])
        for name, precision, provider in order
        if precision in complete
    ]
    if not variants:
        raise CompatibilityError(_why_no_graph(folder, missing), file=str(folder))
    return variants


def _embedder(folder: Path, suffix: str) -> str:
    """The hotword encoder for graphs of this suffix. Published int8 models have it in fp32."""
    names = (f"model_eb{s}.onnx" for s in (suffix, "", "_quant"))
    return next((name for name in names if _is_there(folder, name)), "")


def _why_no_graph(folder: Path, missing: list[str]) -> str:
    if missing:
        return f"{'; '.join(missing)}; export the model again, or copy the whole folder"
    if _is_there(folder, "model.pt"):
        return "holds model.pt but no graph; export it first: scripts/export_models.py"
    wanted = ", ".join(f"model{suffix}.onnx" for suffix in _SUFFIXES.values())
    return f"has no graph that can be used (one of {wanted}); give the folder of a FunASR export"


def _extra(folder: Path, kind: Kind, config: Mapping[str, Any]) -> dict[str, bytes]:
    """tokens.json, made from an older config.yaml where it is needed and not there."""
    if TOKENS not in kind.side_files or _is_there(folder, TOKENS):
        return {}
    tokens = token_list(config)
    if not tokens:
        raise ManifestError(
            "is missing, and config.yaml has no token_list; copy it from the model's repository",
            file=str(folder / TOKENS),
        )
    try:
        return {TOKENS: json.dumps(tokens, ensure_ascii=False, indent=4).encode()}
    except UnicodeEncodeError:
        reason = "token_list holds text that is not Unicode"
        raise ManifestError(reason, file=str(folder / CONFIG)) from None


def _names(folder: Path, kind: Kind, variants: list[Variant], extra: Collection[str]) -> list[str]:
    """The files of the folder that belong to the model, graphs first."""
    graphs = [name for variant in variants for name in variant.graphs.values()]
    side_files = [CONFIG, *(name for name in kind.side_files if name not in extra)]
    pieces = sorted(name for name in os.listdir(folder) if name.endswith(".bpe.model"))
    others = ["seg_dict", *pieces, _HUB_CARD, "README.md"]
    found = [name for name in others if _is_there(folder, name)]
    return list(dict.fromkeys([*graphs, *side_files, *found]))


def _hashed(folder: Path, name: str, progress: Progress | None) -> ListedFile:
    size, digest = 0, hashlib.sha256()
    try:
        with open_inside(folder, name) as file:
            while block := file.read(BLOCK):
                size += len(block)
                digest.update(block)
                if progress is not None:
                    progress(len(block))
    except Unfit as unfit:
        reason = f"{unfit}; put the file itself into the folder"
        raise ManifestError(reason, file=str(folder / name)) from None
    except OSError as error:
        reason = f"can't be read ({error.strerror})"
        raise ManifestError(reason, file=str(folder / name)) from None
    return ListedFile(size, digest.hexdigest())


def _listed(data: bytes) -> ListedFile:
    return ListedFile(len(data), hashlib.sha256(data).hexdigest())


def _hub_name(folder: Path) -> str:
    """The repository that configuration.json names; a hint only, so an unfit file is no error."""
    try:
        card = json.loads(read_small(folder, _HUB_CARD, _MAX_HUB_CARD_BYTES))
    except (Unfit, ValueError, RecursionError):
        return ""
    names = card.get("model_name_in_hub") if isinstance(card, dict) else None
    found = (names.get("ms") or names.get("hf")) if isinstance(names, dict) else None
    fit = isinstance(found, str) and found.isprintable() and len(found) <= _MAX_HUB_NAME
    return str(found) if fit else ""


def _memory_mb(variant: Variant, files: Mapping[str, ListedFile]) -> int:
    """Estimate: ONNX Runtime keeps the weights and packed copies; measured are 1.2 to 2 times."""
    graph_bytes = sum(files[name].size for name in variant.graphs.values())
    return 100 + 10 * -(-2 * graph_bytes // 10_000_000)


def _name_of(folder: Path) -> str:
    return folder.resolve().name.encode(errors="replace").decode()


def _id_of(folder: Path) -> str:
    """A model id made of the folder's name."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", _name_of(folder).lower()).lstrip("._-")[:128]
    return plain if is_model_id(plain) else "model"


def _families_here() -> set[str]:
    """Names of the families, which are named like their modules; none is imported for it."""
    return {entry.name for entry in pkgutil.iter_modules(agent.engine.families.__path__)}


def _is_there(folder: Path, name: str) -> bool:
    """A link counts, so that it is refused rather than passed over."""
    return os.path.lexists(folder / name)
