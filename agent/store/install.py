"""Installs a bundle: everything is written and proven beside the store, then renamed into it.

A power cut at any point leaves the old state, or whole models of the new one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.errors import (
    AlreadyInstalled,
    BundleError,
    IntegrityError,
    ManifestError,
    UnknownModel,
)
from agent.store.archive import UnpackedModel, disk_errors_told, unpack
from agent.store.bundle import MAX_SIGNATURE_BYTES
from agent.store.disk import Disk
from agent.store.manifest import ListedFile, Manifest, read_manifest
from agent.store.names import MANIFEST_NAME, SIGNATURE_NAME
from agent.store.refs import parse_ref
from agent.store.safe_open import Unfit, checked_blocks, read_small
from agent.store.trust import TrustedKeys

STAGING_PREFIX = ".staging-"
TRASH_PREFIX = ".trash-"


@dataclass(frozen=True)
class InstalledModel:
    """A model of a bundle, now in the store."""

    id: str
    sha8: str
    task: str
    """The role that it can serve."""
    folder: Path
    already: bool
    """It was installed before, and sound: nothing was written for it."""


@dataclass(frozen=True)
class _Candidate:
    """A checked model in the staging folder, and where it belongs."""

    manifest: Manifest
    folder: Path
    target: Path
    trash: Path
    """Takes what lies at `target` while it is replaced."""
    already: bool


class Installer:
    """Changes the folder of installed models. Its caller holds the store's lock."""

    def __init__(
        self,
        models_folder: Path,
        disk: Disk,
        *,
        max_bytes: int,
        keys: TrustedKeys,
        prove: Callable[[Path], None],
    ) -> None:
        """`max_bytes` bounds a bundle unpacked; `prove` gets a model's folder and raises an
        AgentError to refuse it."""
        self._models = models_folder
        self._disk = disk
        self._max_bytes = max_bytes
        self._keys = keys
        self._prove = prove

    def install(
        self, stream: BinaryIO, *, progress: Callable[[int], None] | None = None
    ) -> tuple[InstalledModel, ...]:
        """Install every model of the bundle that `stream` gives, or none.

        `progress` gets the bytes read from the stream so far. A model that is installed but
        damaged is replaced. Raises AlreadyInstalled when nothing is new, BundleError, NoSpace,
        ManifestError, IntegrityError, SignatureError, and what `prove` raises; the store is
        unchanged then.
        """
        staging = self._models / f"{STAGING_PREFIX}{secrets.token_hex(4)}"
        with disk_errors_told(self._models):
            self.clean()
            try:
                self._disk.make_folder(staging)
                unpacked = unpack(
                    stream, staging, disk=self._disk, max_bytes=self._max_bytes, progress=progress
                )
                candidates = [self._check(model) for model in unpacked]
                new = [candidate for candidate in candidates if not candidate.already]
                if not new:
                    names = ", ".join(candidate.target.name for candidate in candidates)
                    raise AlreadyInstalled(f"{names}: installed already, and sound; nothing to do")
                for candidate in new:
                    self._prove(candidate.folder)
                self._place(new)
            finally:
                # What can't be removed now is removed at the next change of the store.
                with suppress(OSError):
                    self._disk.remove(staging)
        return tuple(
            InstalledModel(c.manifest.id, c.manifest.sha8, c.manifest.task, c.target, c.already)
            for c in candidates
        )

    def remove(self, name: str) -> None:
        """Remove the installed model `id@sha8`; whether it is in use is for the caller to know.

        Raises UnknownModel.
        """
        ref = parse_ref(name)
        target = self._models / str(ref)
        if not ref.sha8 or not target.is_dir():
            raise UnknownModel(
                f"{name} is not installed; `funasr-agent models list` shows what is (id@sha8)"
            )
        with disk_errors_told(self._models):
            self.clean()
            trash = self._trash()
            self._disk.replace(target, trash)
            self._disk.remove(trash)

    def clean(self) -> None:
        """Remove what an interrupted change left behind. Raises OSError."""
        if not self._models.is_dir():
            return
        for path in sorted(self._models.iterdir()):
            if path.name.startswith((STAGING_PREFIX, TRASH_PREFIX)):
                self._disk.remove(path)

    def _check(self, model: UnpackedModel) -> _Candidate:
        """Manifest, signature and files of an unpacked model. Raises ModelError."""
        manifest = read_manifest(model.folder)
        where = f"{model.id}/{MANIFEST_NAME}"
        if manifest.sha256 != model.manifest_sha256:
            raise IntegrityError("changed while it was installed; check the disk", file=where)
        if manifest.id != model.id:
            raise ManifestError(
                f"the id is {manifest.id!r}, the folder is {model.id!r}; they must be the same",
                file=where,
            )
        self._keys.check(manifest.data, _signature(model.folder), where)
        _compare(model.id, manifest.files, model.hashes)
        target = self._models / f"{manifest.id}@{manifest.sha8}"
        already = self._is_sound(target, manifest)
        return _Candidate(manifest, model.folder, target, self._trash(), already)

    def _is_sound(self, folder: Path, manifest: Manifest) -> bool:
        """Whether `folder` holds exactly this model, signed as the keys want it."""
        if not folder.exists():
            return False
        try:
            installed = read_manifest(folder)
            if installed.sha256 != manifest.sha256:
                if installed.sha8 == manifest.sha8:
                    raise BundleError(f"another model has the same name {folder.name}; rename it")
                return False
            self._keys.check(installed.data, _signature(folder), folder.name)
            for name, listed in manifest.files.items():
                for _ in checked_blocks(folder, name, listed):
                    pass
        except (ManifestError, IntegrityError, Unfit):
            return False
        return True

    def _place(self, candidates: list[_Candidate]) -> None:
        """Rename all into the store; none of them when one can't be."""
        for candidate in candidates:
            self._sync_tree(candidate.folder)
        with ExitStack() as undo:
            for candidate in candidates:
                undo.callback(self._take_back, candidate)
                if candidate.target.exists() or candidate.target.is_symlink():
                    self._disk.replace(candidate.target, candidate.trash)
                self._disk.replace(candidate.folder, candidate.target)
            undo.pop_all()
        for candidate in candidates:
            # As for the staging folder: a rest is removed at the next change.
            with suppress(OSError):
                self._disk.remove(candidate.trash)

    def _take_back(self, candidate: _Candidate) -> None:
        if candidate.target.exists() and not candidate.folder.exists():
            self._disk.replace(candidate.target, candidate.folder)
        if candidate.trash.exists():
            self._disk.replace(candidate.trash, candidate.target)

    def _sync_tree(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                self._disk.sync_folder(path)
        self._disk.sync_folder(folder)

    def _trash(self) -> Path:
        return self._models / f"{TRASH_PREFIX}{secrets.token_hex(4)}"


def _compare(
    model_id: str, listed: Mapping[str, ListedFile], found: Mapping[str, ListedFile]
) -> None:
    """The files of the bundle against those of the manifest. Raises ModelError."""
    for name in found:
        if name not in listed:
            raise BundleError(
                f"is not listed in {MANIFEST_NAME}; only listed files belong into a bundle",
                file=f"{model_id}/{name}",
            )
    for name, wanted in listed.items():
        error = _difference(wanted, found.get(name))
        if error:
            raise IntegrityError(f"{error}; make the bundle again", file=f"{model_id}/{name}")


def _difference(wanted: ListedFile, found: ListedFile | None) -> str:
    if found is None:
        return "the bundle lacks it, manifest lists it"
    if found.size != wanted.size:
        return f"size is {found.size}, manifest says {wanted.size}"
    if found.sha256 != wanted.sha256:
        return f"sha256 is {found.sha256[:8]}..., manifest says {wanted.sha256[:8]}..."
    return ""


def _signature(folder: Path) -> bytes | None:
    if not (folder / SIGNATURE_NAME).exists():
        return None
    try:
        return read_small(folder, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    except Unfit as unfit:
        raise IntegrityError(f"{unfit}", file=f"{folder.name}/{SIGNATURE_NAME}") from None
