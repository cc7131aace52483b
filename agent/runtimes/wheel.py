"""A wheel of ONNX Runtime: looked at before anything is touched, then unpacked and verified."""

from __future__ import annotations

import base64
import csv
import email.parser
import hashlib
import io
import os
import platform
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from agent.errors import AgentError

MODULE = "onnxruntime"
MAX_UNPACKED = 8 << 30
"""Bytes. The largest builds for GPUs take under 1 GiB."""
_MAX_FILES = 50_000
_MAX_TEXT = 16 << 20
"""Bytes of METADATA or RECORD."""
_BLOCK = 1 << 20
_BINDING = f"{MODULE}/capi/onnxruntime_pybind11_state"
_NUMPY_2 = b"numpy._core"
"""What a library asks for that was built with the headers of numpy 2; numpy 1 has no such name."""


class RuntimeRefused(AgentError):
    """A runtime can't be installed here; what was installed before stays in use."""

    code = "runtime_refused"


@dataclass(frozen=True)
class Here:
    """The Python that a runtime is to be installed for."""

    tags: tuple[Tag, ...]
    """That its wheels may have, best first."""
    numpy: str
    """Version that is installed; empty without one."""
    version: str
    """For people: `3.10 on aarch64`."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that fits."""

    path: Path
    name: str
    version: str


def this_python() -> Here:
    """The interpreter that runs this."""
    try:
        numpy = metadata.version("numpy")
    except metadata.PackageNotFoundError:
        numpy = ""
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
    return Here(tuple(sys_tags()), numpy, version)


def check_wheel(path: Path, here: Here) -> Wheel:
    """Look at name, tags, content and numpy's ABI; writes nothing. Raises RuntimeRefused."""
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise RuntimeRefused(f"{path}: is not named as a wheel is: {error}") from None
    if not canonicalize_name(name).startswith((MODULE, "ort-")):
        raise RuntimeRefused(f"{path}: is a wheel of {name}; one of onnxruntime-gpu is needed")
    if not tags & set(here.tags):
        _refuse_tags(path, tags, here)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(path, archive)
            _check_numpy(path, archive, here)
    except OSError as error:
        raise RuntimeRefused(f"{path}: can't be read: {error.strerror or error}") from None
    except zipfile.BadZipFile as error:
        raise RuntimeRefused(f"{path}: is no wheel: {error}; get it again") from None
    return Wheel(path, str(name), str(version))


def unpack(wheel: Wheel, into: Path) -> None:
    """Write the content to the empty folder `into`; every file is held to the SHA-256 that the
    wheel's RECORD has for it, and is on the disk afterwards. Raises RuntimeRefused, OSError."""
    with zipfile.ZipFile(wheel.path) as archive:
        record = _info_file(archive, "RECORD")
        try:
            rows = list(csv.reader(io.StringIO(_text(archive, record))))
        except csv.Error as error:
            raise RuntimeRefused(f"{wheel.path}: its RECORD can't be read: {error}") from None
        digests = {row[0]: row[1] for row in rows if len(row) > 1}
        for item in archive.infolist():
            if item.is_dir():
                continue
            target = into / item.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                digest = _copy(archive, item, target)
            except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                raise RuntimeRefused(f"{wheel.path}: is damaged: {error}; get it again") from None
            if item.filename != record and digests.get(item.filename) != digest:
                raise RuntimeRefused(
                    f"{wheel.path}: {item.filename} is not what the wheel's RECORD says; "
                    "get it again"
                )
    for folder, _, _ in os.walk(into):
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """What was made or renamed in `folder` outlasts a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_tags(path: Path, tags: frozenset[Tag], here: Here) -> None:
    pythons = ", ".join(sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags}))
    platforms = ", ".join(sorted({tag.platform for tag in tags}))
    fitting = {(tag.interpreter, tag.abi) for tag in here.tags}
    if not any((tag.interpreter, tag.abi) in fitting for tag in tags):
        what = f"is made for another Python ({pythons}); this is {here.version}"
    else:
        what = f"is made for another platform ({platforms}); this is {here.version}"
    raise RuntimeRefused(f"{path}: {what}; get the wheel for {here.tags[0]}")


def _check_names(path: Path, archive: zipfile.ZipFile) -> None:
    items = archive.infolist()
    if len(items) > _MAX_FILES or sum(item.file_size for item in items) > MAX_UNPACKED:
        raise RuntimeRefused(f"{path}: unpacks to more than {MAX_UNPACKED >> 30} GiB")
    for item in items:
        parts = PurePosixPath(item.filename).parts
        if item.filename.startswith("/") or ".." in parts or "\\" in item.filename:
            raise RuntimeRefused(f"{path}: {item.filename!r} points outside the wheel")
    if f"{MODULE}/__init__.py" not in archive.namelist():
        raise RuntimeRefused(f"{path}: has no module {MODULE}")
    for name in ("METADATA", "RECORD"):
        _info_file(archive, name)


def _check_numpy(path: Path, archive: zipfile.ZipFile, here: Here) -> None:
    """Against what the wheel asks for, and against the numpy that its library was built with."""
    if not here.numpy:
        raise RuntimeRefused("numpy is not installed; set the agent up again")
    headers = email.parser.HeaderParser().parsestr(_text(archive, _info_file(archive, "METADATA")))
    for text in headers.get_all("Requires-Dist") or ():
        wanted = Requirement(text)
        if canonicalize_name(wanted.name) != "numpy":
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if not wanted.specifier.contains(here.numpy, prereleases=True):
            raise RuntimeRefused(f"{path}: needs numpy{wanted.specifier}, {here.numpy} is here")
    if int(here.numpy.partition(".")[0]) < 2:
        return
    for item in archive.infolist():
        if item.filename.startswith(_BINDING) and not _contains(archive, item, _NUMPY_2):
            raise RuntimeRefused(
                f"{path}: was built for numpy 1, and numpy {here.numpy} is here; get a build for "
                "numpy 2 (ONNX Runtime 1.19 or newer has them)"
            )


def _info_file(archive: zipfile.ZipFile, name: str) -> str:
    found = [
        item
        for item in archive.namelist()
        if item.endswith(f".dist-info/{name}") and item.count("/") == 1
    ]
    if len(found) != 1:
        raise RuntimeRefused(f"{archive.filename}: has {len(found)} files {name}, one is needed")
    return found[0]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        return file.read(_MAX_TEXT).decode("utf-8", "replace")


def _contains(archive: zipfile.ZipFile, item: zipfile.ZipInfo, needle: bytes) -> bool:
    with archive.open(item) as file:
        before = b""
        while block := file.read(_BLOCK):
            if needle in before + block:
                return True
            before = block[-len(needle) :]
    return False


def _copy(archive: zipfile.ZipFile, item: zipfile.ZipInfo, target: Path) -> str:
    """Write one file; its digest as RECORD writes it."""
    digest = hashlib.sha256()
    with archive.open(item) as source, target.open("xb") as file:
        while block := source.read(_BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o755 if (item.external_attr >> 16) & 0o111 else 0o644)
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
