"""Reads what is not trusted: files of a model folder, and the stream of a bundle."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from agent.errors import BundleError, BundleTooLarge
from agent.store.manifest import ListedFile

BLOCK = 1 << 20
"""Bytes read at once."""
MAX_ZSTD_WINDOW_BYTES = 32 << 20
"""Memory of the decompression; `zstd -19` stays below it."""
COPY_AGAIN = "copy or upload it again"

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_FEED_BYTES = 512
"""Decompressed at once: with the format's highest ratio, 32768, it gives 16 MB."""


class Unfit(Exception):
    """A file is not what the manifest says, or not a plain file inside the folder."""


def open_inside(folder: Path, name: str) -> BinaryIO:
    """Open a regular file below `folder` without following a link at any step.

    Each step is opened relative to the one before, so a folder that is swapped for a link
    meanwhile is refused as well. O_NONBLOCK: a FIFO must not hang the caller. Raises Unfit.
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
            raise Unfit("is a symbolic link, a model's files must lie in its own folder")
        if not stat.S_ISREG(before.st_mode):
            raise Unfit("is not a regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(last, flags, dir_fd=at)
    except FileNotFoundError:
        raise Unfit("is missing") from None
    except OSError as error:
        raise Unfit(f"can't be opened ({error.strerror})") from None
    finally:
        if at >= 0:
            os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unfit("is not a regular file")
    return os.fdopen(fd, "rb")


def checked_blocks(folder: Path, name: str, listed: ListedFile) -> Iterator[bytes]:
    """The file in blocks of at most 1 MB, exactly `listed.size` bytes if it comes to its end.

    Raises Unfit: at once for a wrong size, after the last block for a wrong SHA-256.
    """
    digest = hashlib.sha256()
    left = listed.size
    with open_inside(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != listed.size:
            raise Unfit(f"size is {size}, manifest says {listed.size}")
        while left:
            try:
                block = file.read(min(BLOCK, left))
            except OSError as error:
                raise Unfit(f"can't be read ({error.strerror})") from None
            if not block:
                raise Unfit("became shorter while it was read")
            left -= len(block)
            digest.update(block)
            yield block
    if digest.hexdigest() != listed.sha256:
        raise Unfit(f"sha256 is {digest.hexdigest()[:8]}..., manifest says {listed.sha256[:8]}...")


def read_small(folder: Path, name: str, limit: int) -> bytes:
    """All bytes of a file of at most `limit` bytes. Raises Unfit."""
    with open_inside(folder, name) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise Unfit(f"can't be read ({error.strerror})") from None
    if len(data) > limit:
        raise Unfit(f"is larger than {limit} bytes")
    return data


def open_stream(
    stream: BinaryIO, max_bytes: int, progress: Callable[[int], None] | None = None
) -> Source:
    """The content of `stream`, decompressed when it is zstd; at most `max_bytes` are read of it.

    `progress` gets the bytes read from the stream so far. Reading raises BundleError.
    """
    counted = _Counted(stream, max_bytes, progress)
    compressed = counted.head(len(_ZSTD_MAGIC)) == _ZSTD_MAGIC
    return _Unzstd(counted) if compressed else counted


class Source:
    """Bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        """From 1 to `size` bytes; none at the end."""
        if not self._ready:
            self._ready = memoryview(self._more())
        piece = bytes(self._ready[:size])
        self._ready = self._ready[size:]
        return piece

    def head(self, size: int) -> bytes:
        """The next `size` bytes, fewer when there are no more; they are read again."""
        while len(self._ready) < size and (more := self._more()):
            self._ready = memoryview(bytes(self._ready) + more)
        return bytes(self._ready[:size])

    def _more(self) -> bytes:
        raise NotImplementedError


class _Counted(Source):
    """The stream as it came, counted."""

    def __init__(
        self, stream: BinaryIO, max_bytes: int, progress: Callable[[int], None] | None
    ) -> None:
        super().__init__()
        self._stream = stream
        self._max_bytes = max_bytes
        self._progress = progress
        self._total = 0

    def _more(self) -> bytes:
        try:
            data = self._stream.read(BLOCK)
        except OSError as error:
            raise BundleError(
                f"the bundle can't be read ({error.strerror or error}); {COPY_AGAIN}"
            ) from error
        self._total += len(data)
        if self._total > self._max_bytes:
            raise BundleTooLarge(
                "the bundle is too large; raise models.max_bundle_mb if that is meant"
            )
        if self._progress is not None and data:
            self._progress(self._total)
        return data


class _Unzstd(Source):
    """The content of zstd frames. A frame that is cut off is an error, not an end."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._inside = False
        self._left = b""

    def _more(self) -> bytes:
        content = b""
        while not content:
            data = self._left or self._source.read(_ZSTD_FEED_BYTES)
            if not data:
                if self._inside:
                    raise BundleError(f"the bundle is cut off; {COPY_AGAIN}")
                break
            try:
                content = self._frame.decompress(data)
            except zstandard.ZstdError as error:
                raise BundleError(
                    f"the bundle can't be decompressed ({error}); {COPY_AGAIN}, or make it with "
                    "`zstd -19` at most"
                ) from None
            self._inside = not self._frame.eof
            self._left = b"" if self._inside else self._frame.unused_data
            if not self._inside:
                self._frame = self._decompressor.decompressobj()
        return content
