"""The published models: where they come from, what they need, and the SHA-256 of their files.

A model is **pinned** when the SHA-256 of every graph is on the list of one known model (graphs that
belong together, of one revision) and no side file contradicts a SHA-256 on that list. A side file
for which the list states no SHA-256 is not judged. Pinned is always computed from hashes, never
believed from a manifest; all else is unpinned, which says nothing against it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from agent.store.manifest import ListedFile, Manifest, Requirements, Variant
from agent.store.strict_yaml import load_strict_yaml

LIST_NAME = "known_models.yaml"


@dataclass(frozen=True)
class KnownHash:
    """One published form of a file."""

    sha256: str
    size: int | None = None
    """Bytes; None where it is not known."""
    revision: str = ""
    """Of the file in its repository; empty where it is not known."""


@dataclass(frozen=True)
class KnownFile:
    """A file of a published model."""

    known: tuple[KnownHash, ...] = ()
    """Every form that is known; empty: whatever comes is taken."""
    optional: bool = False
    """Whether the model does without it."""

    @property
    def sha256(self) -> tuple[str, ...]:
        """The known hashes."""
        return tuple(form.sha256 for form in self.known)

    @property
    def size(self) -> int | None:
        """Bytes of the largest known form; None when the size of any form is not known."""
        sizes = [form.size for form in self.known if form.size is not None]
        return max(sizes) if sizes and len(sizes) == len(self.known) else None

    def form(self, sha256: str) -> KnownHash | None:
        """The form with this hash."""
        return next((form for form in self.known if form.sha256 == sha256), None)


@dataclass(frozen=True)
class KnownModel:
    """A published model."""

    id: str
    family: str
    task: str
    languages: tuple[str, ...]
    license: str
    source: Mapping[str, str]
    """`name` of the repository, and the `revision` that a mirror is asked for."""
    sample_rate: int
    variants: tuple[Variant, ...]
    requires: Requirements
    files: Mapping[str, KnownFile]


@lru_cache(maxsize=1)
def known_models() -> dict[str, KnownModel]:
    """Every published model by its id."""
    data = resources.files("agent.store").joinpath(LIST_NAME).read_bytes()
    return {name: _model(name, tree) for name, tree in load_strict_yaml(data, LIST_NAME).items()}


def recognise(
    files: Mapping[str, ListedFile],
    family: str,
    models: Mapping[str, KnownModel] | None = None,
) -> KnownModel | None:
    """The published model whose files these are: pinned, as the module says. None: unpinned."""
    for model in (known_models() if models is None else models).values():
        if model.family == family and belong(model, files):
            return model
    return None


def belong(model: KnownModel, files: Mapping[str, ListedFile]) -> bool:
    """Whether `files` are those of `model`: pinned, as the module says."""
    found = (_revision(model, files, _graphs(files, variant)) for variant in model.variants)
    return any(revision is not None for revision in found)


def published_revision(model: KnownModel, files: Mapping[str, ListedFile]) -> str:
    """The revision that the graphs of a recognised model are of; `unknown` when not stated."""
    found = (_revision(model, files, _graphs(files, variant)) for variant in model.variants)
    return next((revision for revision in found if revision), "unknown")


def is_pinned(manifest: Manifest, models: Mapping[str, KnownModel] | None = None) -> bool:
    """Whether the manifest is of a published model, by the hashes that it lists."""
    graphs = {name for variant in manifest.variants for name in variant.graphs.values()}
    graphs |= {name for name in manifest.files if _is_graph(name)}
    for model in (known_models() if models is None else models).values():
        published = [dict(variant.graphs) for variant in model.variants]
        if (
            model.family == manifest.family
            and all(dict(variant.graphs) in published for variant in manifest.variants)
            and _revision(model, manifest.files, graphs) is not None
        ):
            return True
    return False


def _is_graph(name: str) -> bool:
    return name.endswith(".onnx")


def _graphs(files: Mapping[str, ListedFile], variant: Variant) -> set[str]:
    return set(variant.graphs.values()) | {name for name in files if _is_graph(name)}


def _revision(
    model: KnownModel, files: Mapping[str, ListedFile], graphs: Collection[str]
) -> str | None:
    """The revision of `graphs` (empty: not stated) when `files` are the model's, else None."""
    revisions: set[str] = set()
    for name in {*graphs, *files}:
        known = model.files.get(name, KnownFile())
        form = known.form(files[name].sha256) if name in files else None
        if name in graphs and form is not None:
            revisions.add(form.revision)
        elif form is None and (name in graphs or known.known):
            return None
    revisions.discard("")
    return None if len(revisions) > 1 else next(iter(revisions), "")


def _model(name: str, tree: Mapping[str, Any]) -> KnownModel:
    return KnownModel(
        id=name,
        family=tree["family"],
        task=tree["task"],
        languages=tuple(tree["languages"]),
        license=tree["license"],
        source=dict(tree["source"]),
        sample_rate=tree["sample_rate"],
        variants=tuple(Variant(**variant) for variant in tree["variants"]),
        requires=Requirements(**tree["requires"]),
        files={
            file: KnownFile(
                tuple(KnownHash(**form) for form in entry.get("known", ())),
                entry.get("optional", False),
            )
            for file, entry in tree["files"].items()
        },
    )
