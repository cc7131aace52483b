"""The four roles that a model can serve in, and the file that says which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from agent.errors import AgentError, ManifestError
from agent.store.disk import Disk
from agent.store.refs import ModelRef, parse_ref
from agent.store.strict_yaml import MAX_MANIFEST_BYTES, load_strict_yaml

Role = Literal["vad", "asr_online", "asr_offline", "punctuation"]
ROLES: tuple[Role, ...] = get_args(Role)
NO_MODEL = "none"
"""Ends the list of the punctuation role: recognised text stays without marks."""
ROLES_NAME = "roles.yaml"

_HEADER = "# Written by funasr-agent: the model chosen for each role, and the one before it.\n"


@dataclass(frozen=True)
class RoleChoice:
    """What was chosen for a role by `models use`."""

    model: ModelRef
    previous: ModelRef | None = None
    """What served before; `models rollback` goes back to it."""


class RolesFile:
    """roles.yaml: the owner's choice of a model for each role. Written whole or not at all."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def read(self) -> tuple[dict[Role, RoleChoice], str]:
        """The choices, and why the file can't be used; then there are no choices.

        A damaged file is left where it is: the configured lists serve meanwhile.
        """
        try:
            with open(self._path, "rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
            return _parse(load_strict_yaml(data, ROLES_NAME)), ""
        except FileNotFoundError:
            return {}, ""
        except (AgentError, OSError) as error:
            reason = error.message if isinstance(error, AgentError) else f"{self._path}: {error}"
            advice = "the configured lists serve; `funasr-agent models use ROLE=ID` writes it anew"
            return {}, f"{reason}; {advice}"

    def choose(self, role: Role, model: ModelRef, previous: ModelRef | None) -> None:
        """Record the choice for `role`, durably. Raises OSError."""
        choices, _ = self.read()
        choices[role] = RoleChoice(model, previous)
        tree = {name: _entry(choice) for name, choice in sorted(choices.items())}
        self._disk.make_folder(self._path.parent)
        self._disk.write(self._path, (_HEADER + yaml.safe_dump(tree, sort_keys=False)).encode())


def _entry(choice: RoleChoice) -> dict[str, str]:
    entry = {"model": str(choice.model)}
    return entry if choice.previous is None else {**entry, "previous": str(choice.previous)}


def _parse(tree: Mapping[Any, Any]) -> dict[Role, RoleChoice]:
    found: dict[Role, RoleChoice] = {}
    for role in ROLES:
        entry = tree.get(role)
        if entry is None:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
            raise ManifestError(f"{role} must have a `model`", file=ROLES_NAME)
        previous = entry.get("previous")
        if previous is not None and not isinstance(previous, str):
            raise ManifestError(f"{role}.previous must be a model", file=ROLES_NAME)
        found[role] = RoleChoice(
            parse_ref(entry["model"]), None if previous is None else parse_ref(previous)
        )
    if unknown := set(map(str, tree)) - set(ROLES):
        raise ManifestError(f"unknown role {', '.join(sorted(unknown))}", file=ROLES_NAME)
    return found
