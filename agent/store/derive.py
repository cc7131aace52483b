"""Variants that are made on this box from a model's verified graphs, and kept beside it.

The published models hold dynamic int8 only, which CUDA runs slower than the CPU does: the same
weights give fp32 and fp16 graphs. Their weights are unsigned, which many CPUs multiply slower than
signed ones. The onnx library and the runtime are loaded on use: derive in a process of its own.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import __version__
from agent.errors import CompatibilityError, IntegrityError, ManifestError
from agent.store.box import fingerprint
from agent.store.disk import Disk, require_space
from agent.store.inspect_graph import GraphFacts
from agent.store.manifest import ListedFile, Manifest, Variant
from agent.store.rewrite import dequantise, dequantise_to_fp16, to_fp16
from agent.store.rewrite_by_stream import products_by_stream
from agent.store.rewrite_lean import lean_by_stream, lean_signed
from agent.store.rewrite_signed import NothingToDo, signed_weights
from agent.store.safe_open import Unfit, checked_blocks, read_small
from agent.store.verify import VerifiedModel, read_verified

RECORD_NAME = "derived.json"
SCHEMA = 1

_BOX = ("onnxruntime", "machine", "cpu")
"""Of the box's fingerprint: what an optimised graph is tied to."""
_BLOCK = 1 << 20
_MAX_RECORD_BYTES = 1 << 16
_ROLE = re.compile(r"\w{1,64}")
_FILE = re.compile(r"\w{1,64}\.onnx")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Derivation:
    """A way to make a variant for `provider` out of another one."""

    name: str
    provider: str
    applies: Callable[[GraphFacts], bool]
    """Whether a graph is of the kind that this starts from."""
    rewrite: Callable[[bytes, str], bytes]
    """Graph and its name for messages -> rewritten graph. Raises CompatibilityError, NothingToDo
    for a graph that it leaves as it is."""
    optimise: bool = False
    """Stored as the runtime optimises it for this CPU, which makes it quicker to load."""
    revision: int = 1
    """Raised when `rewrite` changes its result: what was made before is made anew."""


@dataclass(frozen=True)
class DerivedVariant:
    """A variant that was made here."""

    name: str
    """Of the derivation."""
    provider: str
    graphs: Mapping[str, str]
    """Graph role -> file name."""
    folder: Path
    files: Mapping[str, ListedFile]
    sha256: str
    """Of derived.json: it names files by hash, so it names the whole variant."""


def derivation_named(name: str) -> Derivation:
    """The derivation of that name. Raises CompatibilityError."""
    for derivation in DERIVATIONS:
        if derivation.name == name:
            return derivation
    known = ", ".join(derivation.name for derivation in DERIVATIONS)
    raise CompatibilityError(f"no variant {name!r} can be derived; those known are {known}")


def derive_variant(
    manifest: Manifest,
    folder: Path,
    variant: Variant,
    derivation: Derivation,
    derived_folder: Path,
    disk: Disk,
) -> DerivedVariant:
    """Rewrite each graph of `variant` into `derived_folder`/<name of the derivation>.

    What is there under that name is replaced; cut short, nothing is there, and it is made anew.
    Raises IntegrityError, CompatibilityError (a graph can't be rewritten), NothingToDo (none of
    them is to be), NoSpace, OSError.
    """
    new = derived_folder / f"{derivation.name}.new"
    target = derived_folder / derivation.name
    disk.remove(new)
    disk.make_folder(new)
    try:
        with read_verified(manifest, folder, variant) as source:
            files = _rewrite_all(manifest, variant, derivation, source, new, disk)
        record = _record(manifest, variant, derivation, files)
        stated = json.dumps({**record, "tool": _tool()}, indent=1).encode()
        sha256 = _write(disk, new / RECORD_NAME, [stated], len(stated)).sha256
        disk.sync_folder(new)
        disk.remove(target)
        disk.replace(new, target)
    except BaseException:
        disk.remove(new)
        raise
    return DerivedVariant(
        derivation.name, derivation.provider, record["graphs"], target, files, sha256
    )


def load_derived(
    derived_folder: Path, derivation_name: str, manifest: Manifest
) -> DerivedVariant | None:
    """What was derived before, if it was made from this very model; else None: make it anew.

    The graphs are not looked at before `read_derived`.
    """
    folder = derived_folder / derivation_name
    try:
        data = read_small(folder, RECORD_NAME, _MAX_RECORD_BYTES)
        derivation = derivation_named(derivation_name)
        record = json.loads(data)
        files = {name: _listed(name, entry) for name, entry in record["files"].items()}
        variant = {v.name: v for v in manifest.variants}[record["variant"]]
    except (Unfit, CompatibilityError, ValueError, LookupError, TypeError, AttributeError):
        return None
    expected = _record(manifest, variant, derivation, files)
    graphs = expected["graphs"]
    if {**record, "tool": None} != {**expected, "tool": None} or {*files} != {*graphs.values()}:
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    return DerivedVariant(derivation_name, derivation.provider, graphs, folder, files, sha256)


def read_derived(derived: DerivedVariant) -> dict[str, bytes]:
    """Graphs by role, verified while they are read. Raises IntegrityError."""
    graphs: dict[str, bytes] = {}
    for role, name in derived.graphs.items():
        content = io.BytesIO()
        try:
            for block in checked_blocks(derived.folder, name, derived.files[name]):
                content.write(block)
        except Unfit as unfit:
            raise IntegrityError(
                f"{unfit}; delete the folder {derived.folder}, it is made anew", file=name
            ) from None
        graphs[role] = content.getvalue()
    return graphs


def derived_graphs(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Graphs by role of the variant that was derived into `folder` from the model of `manifest`.

    Raises IntegrityError, also when it was made from something else.
    """
    derived = load_derived(folder.parent, folder.name, manifest)
    if derived is None:
        raise IntegrityError(
            f"does not fit the model {manifest.id}; delete the folder {folder}, it is made anew",
            file=f"{folder.name}/{RECORD_NAME}",
        )
    return read_derived(derived)


def _is_dynamic_int8(facts: GraphFacts) -> bool:
    return facts.quantised == "dynamic_int8"


def _is_float(facts: GraphFacts) -> bool:
    return facts.quantised == "none"


def _unchanged(data: bytes, name: str) -> bytes:
    return data


DERIVATIONS: tuple[Derivation, ...] = (
    Derivation("fp32-from-int8", "cuda", _is_dynamic_int8, dequantise),
    Derivation("fp16-from-int8", "cuda", _is_dynamic_int8, dequantise_to_fp16),
    Derivation("fp16-from-fp32", "cuda", _is_float, to_fp16),
    Derivation("lean-by-stream", "cpu", _is_dynamic_int8, lean_by_stream, optimise=True),
    Derivation("lean-s8", "cpu", _is_dynamic_int8, lean_signed, optimise=True),
    Derivation("s8-by-stream", "cpu", _is_dynamic_int8, products_by_stream, optimise=True),
    Derivation("s8-from-u8", "cpu", _is_dynamic_int8, signed_weights, optimise=True),
    Derivation("optimised", "cpu", lambda _: True, _unchanged, optimise=True),
)
"""Every way that is known."""


def _rewrite_all(
    manifest: Manifest,
    variant: Variant,
    derivation: Derivation,
    source: VerifiedModel,
    folder: Path,
    disk: Disk,
) -> dict[str, ListedFile]:
    """File name -> what was written to it."""
    files: dict[str, ListedFile] = {}
    nothing: list[NothingToDo] = []
    for role, file in variant.graphs.items():
        if not _ROLE.fullmatch(role):
            raise ManifestError(f"the graph role {role!r} can't name a file")
        name = f"{manifest.id}/{file}"
        data = source.graph(role)
        try:
            data = derivation.rewrite(data, name)
        except NothingToDo as error:
            nothing.append(error)
        path = folder / f"{role}.onnx"
        if derivation.optimise:
            files[path.name] = _write_optimised(disk, path, data, name)
        else:
            files[path.name] = _write(disk, path, [data], len(data))
        del data
    if len(nothing) == len(variant.graphs):
        raise nothing[0]
    return files


def _write_optimised(disk: Disk, path: Path, data: bytes, name: str) -> ListedFile:
    from agent.engine import ort

    scratch = path.with_suffix(".scratch")
    require_space(path.parent, 2 * len(data))
    ort.write_optimised(data, scratch, name=name)
    with scratch.open("rb") as file:
        blocks = itertools.chain(iter(lambda: file.read(_BLOCK), b""), [ort.optimised_mark()])
        listed = _write(disk, path, blocks, scratch.stat().st_size)
    disk.remove(scratch)
    return listed


def _record(
    manifest: Manifest, variant: Variant, derivation: Derivation, files: Mapping[str, ListedFile]
) -> dict[str, Any]:
    """derived.json without what made it: from the same model it comes out the same."""
    return {
        "schema": SCHEMA,
        "derivation": derivation.name,
        "revision": derivation.revision,
        "provider": derivation.provider,
        "variant": variant.name,
        "source": {file: manifest.files[file].sha256 for file in variant.graphs.values()},
        "graphs": {role: f"{role}.onnx" for role in variant.graphs},
        "files": {name: asdict(listed) for name, listed in files.items()},
        **({"box": _box()} if derivation.optimise else {}),
    }


def _box() -> dict[str, str]:
    """What must be the same for an optimised graph to be used."""
    now = fingerprint()
    return {part: now[part] for part in _BOX}


def _tool() -> dict[str, str]:
    import onnx

    return {"funasr-agent": __version__, "onnx": str(onnx.__version__)}


def _listed(name: str, entry: Mapping[str, Any]) -> ListedFile:
    """Raises ValueError, LookupError, TypeError."""
    size, sha256 = entry["size"], entry["sha256"]
    if not _FILE.fullmatch(name) or type(size) is not int or not _SHA256.fullmatch(sha256):
        raise ValueError(name)
    return ListedFile(size, sha256)


def _write(disk: Disk, path: Path, blocks: Iterable[bytes], about: int) -> ListedFile:
    """Write the blocks, `about` so many bytes."""
    require_space(path.parent, about)
    digest, size = hashlib.sha256(), 0
    with disk.create(path) as file:
        for block in blocks:
            file.write(block)
            digest.update(block)
            size += len(block)
    return ListedFile(size, digest.hexdigest())
