"""Finds models: those that were installed, and those that came with the agent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import IntegrityError, ManifestError, ModelError, UnknownModel
from agent.store.embedded import EMBEDDED
from agent.store.manifest import Manifest, is_model_id, read_manifest
from agent.store.names import MANIFEST_NAME, SIGNATURE_NAME
from agent.store.refs import ModelRef, parse_ref
from agent.store.trust import TrustedKeys

_MAX_SIGNATURE_BYTES = 4096


@dataclass(frozen=True)
class FoundModel:
    """A model whose manifest can be read and is trusted; its files are not looked at yet."""

    ref: ModelRef
    """Exact: with sha8."""
    manifest: Manifest
    folder: Path
    installed: bool
    """False for one that came with the agent."""


@dataclass(frozen=True)
class UnreadableModel:
    """A folder in which no trusted manifest was found."""

    name: str
    installed: bool
    error: ModelError


class Library:
    """The models of this box. Installed ones come before those shipped with the agent."""

    def __init__(
        self,
        installed: Path,
        shipped: Path,
        keys: TrustedKeys | None = None,
        embedded: Mapping[str, str] = EMBEDDED,
    ) -> None:
        """`embedded`: id -> SHA-256 of the manifest that the shipped model of that id must have."""
        self.installed = installed
        self.shipped = shipped
        self._embedded = embedded
        self._keys = keys or TrustedKeys.load(())

    def find(self, ref: ModelRef) -> FoundModel:
        """The model that `ref` names; without sha8 the newest of that id.

        Raises ManifestError (malformed), IntegrityError (another manifest than the name says,
        signature), UnknownModel (not here).
        """
        if ref.sha8:
            folder = self.installed / str(ref)
            if folder.is_dir():
                return self._read(folder, ref, installed=True)
        elif ref.id not in self._embedded:  # of which no installed one stands before the shipped
            for folder in self._installed_of(ref.id):
                return self._read(folder, parse_ref(folder.name), installed=True)
        if (self.shipped / ref.id / MANIFEST_NAME).is_file():
            # Of a shipped model there is one; a package that brings another one has replaced it.
            return self._read(self.shipped / ref.id, ModelRef(ref.id), installed=False)
        raise UnknownModel(
            f"{ref} is not here: no {MANIFEST_NAME} in {self.shipped / ref.id}, nothing in "
            f"{self.installed}; install the model or change models.*"
        )

    def all(self) -> Iterator[FoundModel | UnreadableModel]:
        """Every model folder, in order of name; installed ones first."""
        for parent, installed in ((self.installed, True), (self.shipped, False)):
            for folder in _model_folders(parent, installed=installed):
                ref = parse_ref(folder.name)
                try:
                    yield self._read(folder, ref, installed=installed)
                except ModelError as error:
                    yield UnreadableModel(folder.name, installed, error)

    def _installed_of(self, model_id: str) -> list[Path]:
        """Folders of all installed manifests of an id, the newest first."""
        folders = _model_folders(self.installed, installed=True)
        mine = [folder for folder in folders if folder.name.partition("@")[0] == model_id]
        return sorted(mine, key=lambda folder: (folder.stat().st_mtime_ns, folder.name))[::-1]

    def _read(self, folder: Path, ref: ModelRef, *, installed: bool) -> FoundModel:
        manifest = read_manifest(folder)
        where = f"{folder.name}/{MANIFEST_NAME}"
        if ref.sha8 and manifest.sha8 != ref.sha8:
            raise IntegrityError(
                f"sha256 is {manifest.sha8}..., the folder's name says {ref.sha8}; "
                "install the bundle again",
                file=where,
            )
        if manifest.id != ref.id:
            raise ManifestError(
                f"the id is {manifest.id!r}, the folder is {folder.name!r}; they must be the same",
                file=where,
            )
        self._trust(manifest, folder, where, installed=installed)
        return FoundModel(ModelRef(manifest.id, manifest.sha8), manifest, folder, installed)

    def _trust(self, manifest: Manifest, folder: Path, where: str, *, installed: bool) -> None:
        """The embedded models are known by their hash, all others by signature where keys are."""
        known = self._embedded.get(manifest.id)
        if known == manifest.sha256:
            return
        if known is not None and not installed:
            raise IntegrityError(
                f"sha256 is {manifest.sha8}..., this version of the agent came with "
                f"{known[:8]}...; install the agent again",
                file=where,
            )
        if self._keys:
            self._keys.check(manifest.data, _signature(folder), where)


def _signature(folder: Path) -> bytes | None:
    try:
        with open(folder / SIGNATURE_NAME, "rb") as file:
            return file.read(_MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        where = f"{folder.name}/{SIGNATURE_NAME}"
        raise IntegrityError(
            f"can't be read ({error.strerror}); install it again", file=where
        ) from None


def _model_folders(parent: Path, *, installed: bool) -> list[Path]:
    """Folders named like a model; staging folders and files of others are passed over."""
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        return []
    folders = []
    for name in names:
        model_id, at, _ = name.partition("@")
        if bool(at) == installed and is_model_id(model_id) and (parent / name).is_dir():
            try:
                parse_ref(name)
            except UnknownModel:
                continue
            folders.append(parent / name)
    return folders
