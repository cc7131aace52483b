"""The models of a box as rows, for the command line, the REST side and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.store.library import FoundModel, UnreadableModel
from agent.store.roles import ROLES
from agent.store.store import ModelStore


def model_rows(store: ModelStore, serving: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a model folder. `serving`: exact name -> role that it serves now. Reads the disk."""
    chosen = {role: store.chosen(role) for role in ROLES}
    rows = []
    for model in store.models():
        if isinstance(model, UnreadableModel):
            rows.append(_unreadable(model))
            continue
        ref = str(model.ref)
        proof = store.proof(model)
        rows.append(
            {
                **_described(model),
                "pinned": store.is_pinned(model),
                "serves": serving.get(ref),
                "chosen_for": next((r for r, (now, _) in chosen.items() if now == ref), None),
                "previous_of": next((r for r, (_, old) in chosen.items() if old == ref), None),
                "proof": proof.to_json() if proof else None,
            }
        )
    return rows


def _described(model: FoundModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "ref": str(model.ref),
        "id": manifest.id,
        "family": manifest.family,
        "task": manifest.task,
        "languages": list(manifest.languages),
        "license": manifest.license,
        "source": dict(manifest.source),
        "installed": model.installed,
        "size_mb": round(sum(file.size for file in manifest.files.values()) / 2**20, 1),
        "memory_mb": manifest.requires.memory_mb,
        "sha256": manifest.sha256,
        "state": "present",
    }


def _unreadable(model: UnreadableModel) -> dict[str, Any]:
    error = model.error
    return {
        "ref": model.name,
        "id": model.name.partition("@")[0],
        "installed": model.installed,
        "state": "refused",
        "level": error.level,
        "code": error.code,
        "reason": error.message,
    }
