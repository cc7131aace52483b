"""Level 1, integrity: every listed file is there, inside the folder, with its size and SHA-256.

The bytes that were hashed are the bytes handed on, so that nothing can change in between.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from agent.errors import IntegrityError, ManifestError, ModelError
from agent.store.embedded import EMBEDDED
from agent.store.manifest import ListedFile, Manifest, Variant
from agent.store.safe_open import Unfit, open_inside

_BLOCK = 1 << 20


class VerifiedModel:
    """Verified bytes of one variant of a model (`agent.engine.base.ModelFiles`).

    Graphs can be hundreds of megabytes: call `release` (or leave the `with` block) when the
    runtime has taken them, so that they are not held twice.
    """

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        contents: dict[str, bytes],
        derived: Mapping[str, bytes] | None = None,
    ) -> None:
        """`derived`: graphs by role that replace those of the variant, verified as well."""
        self.manifest = manifest
        self.variant = variant
        self._contents = contents
        self._derived = dict(derived or {})

    @property
    def graph_roles(self) -> tuple[str, ...]:
        """Roles of the variant's graphs."""
        return tuple(self.variant.graphs)

    @property
    def model_id(self) -> str:
        """Id of the model, for messages."""
        return self.manifest.id

    def has(self, name: str) -> bool:
        """Whether the manifest lists `name`."""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """Bytes of a side file such as `tokens.json`. Raises ManifestError when not listed."""
        if name not in self.manifest.files:
            raise ManifestError(f"the manifest of {self.model_id} does not list it", file=name)
        return self._kept(name)

    def graph(self, role: str) -> bytes:
        """Bytes of a graph of the variant. Raises ManifestError when it has none of that role."""
        if role in self._derived:
            return self._derived[role]
        name = self.variant.graphs.get(role)
        if name is None:
            raise ManifestError(
                f"variant {self.variant.name} of {self.model_id} has no graph {role!r}; "
                f"it has {', '.join(self.variant.graphs)}"
            )
        return self._kept(name)

    def release(self) -> None:
        """Drop all bytes; idempotent. Reading is an error from here on."""
        self._contents, self._derived = {}, {}

    def __enter__(self) -> VerifiedModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _kept(self, name: str) -> bytes:
        try:
            return self._contents[name]
        except KeyError:
            raise ModelError("its bytes are not kept (any more)", file=name) from None


def read_verified(
    manifest: Manifest,
    folder: Path,
    variant: Variant | None = None,
    *,
    derived: Mapping[str, bytes] | None = None,
) -> VerifiedModel:
    """Read and verify every file that the manifest lists; each is read once.

    Kept are the side files and the graphs of `variant` (none: the first), unless `derived` ones
    replace them; all other graphs are hashed in blocks and dropped. Raises IntegrityError naming
    every bad file.
    """
    chosen = variant or manifest.variants[0]
    graphs = {name for v in manifest.variants for name in v.graphs.values()}
    used = {name for role, name in chosen.graphs.items() if role not in (derived or {})}
    dropped = graphs - used
    repair = f"install the {'agent' if manifest.id in EMBEDDED else 'bundle'} again"
    contents: dict[str, bytes] = {}
    failures: list[tuple[str, str]] = []
    for name, listed in manifest.files.items():
        try:
            data = _read(folder, name, listed, keep=name not in dropped)
        except Unfit as unfit:
            failures.append((name, f"{unfit}; {repair}"))
        else:
            if data is not None:
                contents[name] = data
    if failures:
        first, reason = failures[0]
        others = [f"{name}: {why}" for name, why in failures[1:]]
        raise IntegrityError("\n".join([reason, *others]), file=first)
    return VerifiedModel(manifest, chosen, contents, derived)


def _read(folder: Path, name: str, listed: ListedFile, *, keep: bool) -> bytes | None:
    with open_inside(folder, name) as file:
        status = os.fstat(file.fileno())
        if status.st_size != listed.size:
            raise Unfit(f"size is {status.st_size}, manifest says {listed.size}")
        try:
            if keep:
                data: bytes | None = file.read(listed.size)
                digest = hashlib.sha256(data or b"").hexdigest()
            else:
                data, digest = None, _hash_blocks(file)
        except OSError as error:
            raise Unfit(f"can't be read ({error.strerror})") from None
    if digest != listed.sha256:
        raise Unfit(f"sha256 is {digest[:8]}..., manifest says {listed.sha256[:8]}...")
    return data


def _hash_blocks(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
