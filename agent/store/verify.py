"""Level 1, integrity: every listed file is there, inside the folder, with its size and SHA-256.

The bytes that were hashed are the bytes handed on, so that nothing can change in between.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from agent.errors import IntegrityError, ManifestError, ModelError
from agent.store.manifest import ListedFile, Manifest, Variant

_BLOCK = 1 << 20
_REPAIR = "install the bundle again"


class VerifiedModel:
    """Verified bytes of one variant of a model (`agent.engine.base.ModelFiles`).

    Graphs can be hundreds of megabytes: call `release` (or leave the `with` block) when the
    runtime has taken them, so that they are not held twice.
    """

    def __init__(self, manifest: Manifest, variant: Variant, contents: dict[str, bytes]) -> None:
        self.manifest = manifest
        self.variant = variant
        self._contents = contents

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
        name = self.variant.graphs.get(role)
        if name is None:
            raise ManifestError(
                f"variant {self.variant.name} of {self.model_id} has no graph {role!r}; "
                f"it has {', '.join(self.variant.graphs)}"
            )
        return self._kept(name)

    def release(self) -> None:
        """Drop all bytes; idempotent. Reading is an error from here on."""
        self._contents = {}

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
    manifest: Manifest, folder: Path, variant: Variant | None = None
) -> VerifiedModel:
    """Read and verify every file that the manifest lists; each is read once.

    Kept are the side files and the graphs of `variant` (none: the first); the graphs of other
    variants are hashed in blocks and dropped. Raises IntegrityError naming every bad file.
    """
    chosen = variant or manifest.variants[0]
    graphs = {name for v in manifest.variants for name in v.graphs.values()}
    dropped = graphs - set(chosen.graphs.values())
    contents: dict[str, bytes] = {}
    failures: list[tuple[str, str]] = []
    for name, listed in manifest.files.items():
        try:
            data = _read(folder, name, listed, keep=name not in dropped)
        except _Unfit as unfit:
            failures.append((name, f"{unfit}; {_REPAIR}"))
        else:
            if data is not None:
                contents[name] = data
    if failures:
        first, reason = failures[0]
        others = [f"{name}: {why}" for name, why in failures[1:]]
        raise IntegrityError("\n".join([reason, *others]), file=first)
    return VerifiedModel(manifest, chosen, contents)


class _Unfit(Exception):
    """A file is not what the manifest says."""


def _read(folder: Path, name: str, listed: ListedFile, *, keep: bool) -> bytes | None:
    with _open_inside(folder, name) as file:
        status = os.fstat(file.fileno())
        if status.st_size != listed.size:
            raise _Unfit(f"size is {status.st_size}, manifest says {listed.size}")
        try:
            if keep:
                data: bytes | None = file.read(listed.size)
                digest = hashlib.sha256(data or b"").hexdigest()
            else:
                data, digest = None, _hash_blocks(file)
        except OSError as error:
            raise _Unfit(f"can't be read ({error.strerror})") from None
    if digest != listed.sha256:
        raise _Unfit(f"sha256 is {digest[:8]}..., manifest says {listed.sha256[:8]}...")
    return data


def _hash_blocks(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _open_inside(folder: Path, name: str) -> BinaryIO:
    """Open a regular file below `folder` without following a link at any step.

    Each step is opened relative to the one before, so a folder that is swapped for a link
    meanwhile is refused as well. O_NONBLOCK: a FIFO must not hang the start.
    """
    *folders, last = name.split("/")
    at = -1
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(part, flags, dir_fd=at)
            os.close(at)
            at = below
        before = os.stat(last, dir_fd=at, follow_symlinks=False)
        if stat.S_ISLNK(before.st_mode):
            raise _Unfit("is a symbolic link, a model's files must lie in its own folder")
        if not stat.S_ISREG(before.st_mode):
            raise _Unfit("is not a regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(last, flags, dir_fd=at)
    except FileNotFoundError:
        raise _Unfit("is missing") from None
    except OSError as error:
        raise _Unfit(f"can't be opened ({error.strerror})") from None
    finally:
        if at >= 0:
            os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _Unfit("is not a regular file")
    return os.fdopen(fd, "rb")
