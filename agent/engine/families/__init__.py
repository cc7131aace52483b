"""One file a model family; a file added here is found by itself.

A family module has `FAMILY` (its name in manifests), `TASK` (the role it serves), `GRAPHS` (the
graphs a variant must have), where there are any `OPTIONAL_GRAPHS` (those it may have, which what
it says in `GRAPHS` then asks for), and `load(files, settings)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agent.engine.base import EngineSettings, ModelFiles
from agent.errors import ManifestError


@dataclass(frozen=True)
class Family:
    """How models of one family are loaded."""

    name: str
    task: str
    """vad, asr_online, asr_offline or punctuation."""
    graphs: tuple[str, ...]
    load: Callable[[ModelFiles, EngineSettings], Any]
    optional_graphs: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def families() -> dict[str, Family]:
    """Every family by its name."""
    found = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        found[module.FAMILY] = Family(
            module.FAMILY,
            module.TASK,
            module.GRAPHS,
            module.load,
            getattr(module, "OPTIONAL_GRAPHS", ()),
        )
    return found


def load_model(family: str, files: ModelFiles, settings: EngineSettings) -> Any:
    """Load a model from verified bytes.

    Raises ManifestError for an unknown family or unfit side files, CompatibilityError for a
    graph that the runtime or the family can't use.
    """
    known = families()
    if family not in known:
        raise ManifestError(
            f"family {family!r} is unknown; known are {', '.join(sorted(known))}",
            file="manifest.yaml",
        )
    return known[family].load(files, settings)
