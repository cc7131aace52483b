"""Downloads the files of a published model from a mirror: resumable, bounded, verified by SHA-256.

For a workstation with network; nothing on a device calls it unless it is asked to.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.errors import FetchError, IntegrityError, NoSpace
from agent.store.disk import FILE_MODE, Disk, require_space
from agent.store.known import KnownFile, KnownModel, belong
from agent.store.manifest import ListedFile
from agent.store.mirror import (
    MAX_WAIT_S,
    Absent,
    Answer,
    Mirror,
    NothingLeft,
    TryAgain,
    is_web_page,
    shown,
)

Progress = Callable[[str, int, int | None], None]
"""File, bytes of it that are there, its size if that is known."""

MAX_FILE_BYTES = 4 << 30
"""Bound on a file whose size is not known."""
PART = ".part"
MIN_BYTES_PER_S = 1024
"""Less than this over a time-out's length counts as a stall."""

_STEP = 1 << 20
"""A try that brings this much more than all before it starts the count of tries anew."""
_HASH_BLOCK = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class _Terms:
    """How downloads are made."""

    mirror: Mirror
    disk: Disk
    progress: Progress | None
    timeout_s: float
    tries: int
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    max_bytes: int


def fetch(
    known: KnownModel,
    target: Path,
    *,
    mirror: str,
    disk: Disk,
    progress: Progress | None = None,
    timeout_s: float = 30.0,
    tries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    max_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Bring every file of `known` into the folder `target`.

    `mirror` is an address with {name}, {revision} and {file}. A file is asked for at the revision
    that its hash is known of, else at the model's. Files that are there with a known hash are
    kept; `<file>.part` of an interrupted run is resumed. After `tries` tries without progress
    FetchError, after wrong bytes twice IntegrityError, without room NoSpace.
    """
    terms = _Terms(
        Mirror(mirror, timeout_s), disk, progress, timeout_s, tries, sleep, clock, max_bytes
    )
    try:
        disk.make_folder(target)
        require_space(target, _bytes_to_come(known, target))
        found: dict[str, ListedFile] = {}
        for name, file in known.files.items():
            listed = _Download(terms, known, name, file, target).run()
            if listed is not None:
                found[name] = listed
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{target}: the disk is full; make room and fetch it again") from None
        where = str(error.filename or target)
        raise FetchError(f"can't be written ({error.strerror})", file=where) from None
    if not belong(known, found):
        raise IntegrityError(
            f"the graphs of {known.id} are of different revisions; remove the folder and fetch "
            "it from another mirror",
            file=str(target),
        )


class _Wrong(Exception):
    """What the mirror gives is not the known file."""


class _Download:
    """One file on its way."""

    def __init__(
        self, terms: _Terms, model: KnownModel, name: str, file: KnownFile, folder: Path
    ) -> None:
        self._terms = terms
        self._name = name
        self._file = file
        self._final = folder / name
        self._part = folder / (name + PART)
        first = file.known[0].revision if file.known else ""
        revision = first if _COMMIT.fullmatch(first) else model.source["revision"]
        self._url = terms.mirror.url(model.source["name"], revision, name)
        self._validator = ""
        sizes = {form.size for form in file.known}
        self._sizes = set() if None in sizes else {size for size in sizes if size is not None}
        """Sizes that the file can have; empty: not known."""
        self._limit = max(self._sizes, default=terms.max_bytes)

    def run(self) -> ListedFile | None:
        """The file in its place; None for an optional one that the mirror does not have."""
        there = _hash_file(self._final)
        if there is not None and there.sha256 in self._file.sha256:
            self._tell(there.size, there.size)
            return there
        try:
            return self._download()
        except Absent as absent:
            self._terms.disk.remove(self._part)
            if self._file.optional:
                return None
            raise FetchError(f"{absent}; check the mirror", file=self._name) from None

    def _download(self) -> ListedFile:
        """Wrong bytes are thrown away and asked for once more: a proxy may have spoilt them."""
        wrong = ""
        for _ in range(2):
            try:
                self._complete()
                listed = self._judged()
            except _Wrong as reason:
                wrong = str(reason)
                self._terms.disk.remove(self._part)
                self._validator = ""
            else:
                self._terms.disk.replace(self._part, self._final)
                return listed
        raise IntegrityError(
            f"{wrong} ({shown(self._url)}); fetch it from another mirror", file=self._name
        )

    def _judged(self) -> ListedFile:
        listed = _hash_file(self._part)
        if listed is None:
            raise FetchError("went away while it was fetched", file=str(self._part))
        if self._file.known and listed.sha256 not in self._file.sha256:
            expected = " or ".join(f"{sha256[:8]}..." for sha256 in self._file.sha256)
            raise _Wrong(f"sha256 is {listed.sha256[:8]}..., known is {expected}")
        return listed

    def _complete(self) -> None:
        """Ask until the part holds all that the mirror has."""
        failures, best = 0, self._part_size()
        while True:
            try:
                return self._attempt()
            except TryAgain as reason:
                size = self._part_size()
                failures = 1 if size >= best + _STEP else failures + 1
                best = max(best, size)
                if failures >= self._terms.tries:
                    raise FetchError(
                        f"{reason}; gave up after {failures} tries, fetch it again to go on at "
                        f"{size} bytes",
                        file=self._name,
                    ) from None
                wait_s = min(2.0 ** (failures - 1), MAX_WAIT_S)
                self._terms.sleep(wait_s if reason.wait_s is None else reason.wait_s)

    def _attempt(self) -> None:
        offset = self._part_size()
        if offset and not self._resumable(offset):
            self._terms.disk.remove(self._part)
            offset = 0
        if offset and offset == self._limit and self._sizes:
            return
        try:
            answer = self._terms.mirror.open(self._url, offset=offset, validator=self._validator)
        except NothingLeft as nothing:
            if nothing.total == offset or offset in self._sizes:
                return
            self._terms.disk.remove(self._part)
            raise TryAgain(f"{shown(self._url)}: {nothing}") from None
        with answer:
            self._check_announced(answer)
            self._validator = answer.validator
            require_space(self._part.parent, max(0, (answer.total or 0) - answer.start))
            with _open_part(self._part, answer.start) as part:
                self._receive(answer, part)

    def _receive(self, answer: Answer, part: BinaryIO) -> None:
        have, window_start, window_bytes = answer.start, self._terms.clock(), 0
        while block := answer.read():
            if have == 0 and is_web_page(block):
                raise Absent(f"{answer.shown}: the mirror answers with a web page")
            have += len(block)
            window_bytes += len(block)
            if have > self._limit:
                raise self._too_much(f"more than {self._limit} bytes come")
            part.write(block)
            self._tell(have, answer.total)
            if (took := self._terms.clock() - window_start) >= self._terms.timeout_s:
                if window_bytes < MIN_BYTES_PER_S * took:
                    raise TryAgain(f"{answer.shown}: stalls at {have} bytes")
                window_start, window_bytes = self._terms.clock(), 0
        least = answer.total if answer.total is not None else min(self._sizes, default=0)
        if have < least:
            raise TryAgain(f"{answer.shown}: the connection ended after {have} of {least} bytes")

    def _check_announced(self, answer: Answer) -> None:
        total = answer.total
        if total is not None and self._sizes and total not in self._sizes:
            known = " or ".join(map(str, sorted(self._sizes)))
            raise _Wrong(f"the mirror announces {total} bytes, known is {known}")
        if total is not None and total > self._limit:
            raise self._too_much(f"the mirror announces {total} bytes")

    def _too_much(self, what: str) -> Exception:
        if self._sizes:
            return _Wrong(what)
        return FetchError(
            f"{what}, at most {self._limit} are taken ({shown(self._url)})", file=self._name
        )

    def _resumable(self, offset: int) -> bool:
        """A part can be continued when a hash or a validator tells whether the rest fits it."""
        return bool(self._file.known or self._validator) and offset <= self._limit

    def _part_size(self) -> int:
        try:
            status = os.lstat(self._part)
        except FileNotFoundError:
            return 0
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        self._terms.disk.remove(self._part)
        return 0

    def _tell(self, have: int, total: int | None) -> None:
        if self._terms.progress is not None:
            self._terms.progress(self._name, have, total)


def _bytes_to_come(known: KnownModel, target: Path) -> int:
    """Of the files whose size is known and that are not there yet."""
    total = 0
    for name, file in known.files.items():
        if not os.path.lexists(target / name):
            part = target / (name + PART)
            total += max(0, (file.size or 0) - (part.stat().st_size if part.is_file() else 0))
    return total


@contextmanager
def _open_part(path: Path, start: int) -> Iterator[BinaryIO]:
    """The part for writing: from its end on, or anew. Synced in the end, come what may."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    flags |= os.O_APPEND if start else os.O_TRUNC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        try:
            yield file
        finally:
            file.flush()
            os.fsync(file.fileno())


def _hash_file(path: Path) -> ListedFile | None:
    """Size and hash of a regular file; None when there is none."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
    except FileNotFoundError:
        return None
    size, digest = 0, hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK):
            size += len(block)
            digest.update(block)
    return ListedFile(size, digest.hexdigest())
