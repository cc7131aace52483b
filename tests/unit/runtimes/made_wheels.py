"""Wheels and sites made for the tests: a runtime that only knows its version, or a copy of the
installed one under another name."""

from __future__ import annotations

import base64
import hashlib
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.tags import sys_tags

BINDING = "onnxruntime/capi/onnxruntime_pybind11_state.so"
NUMPY_2 = b"...numpy._core.multiarray..."
TAG = str(next(iter(sys_tags())))


def runtime_files(version: str) -> dict[str, bytes]:
    """A module in two files, which belong together when both say the same version."""
    return {
        "onnxruntime/__init__.py": f"__version__ = {version!r}\n".encode(),
        "onnxruntime/capi/build.py": f"version = {version!r}\n".encode(),
        BINDING: NUMPY_2 + version.encode(),
    }


def make_wheel(
    folder: Path,
    version: str = "9.0.0",
    *,
    project: str = "onnxruntime_gpu",
    tag: str = TAG,
    files: Mapping[str, bytes] | None = None,
    requires: str = "numpy>=1.21.6",
    wrong_digest: str = "",
) -> Path:
    """Written to `folder`. `wrong_digest` names a file whose RECORD line is of other content."""
    info = f"{project}-{version}.dist-info"
    content = dict(runtime_files(version) if files is None else files)
    content[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {project.replace('_', '-')}\nVersion: {version}\n"
        f"Requires-Dist: {requires}\n"
    ).encode()
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nTag: {tag}\n".encode()
    rows = [
        f"{name},{digest(data + b'?' if name == wrong_digest else data)},{len(data)}"
        for name, data in content.items()
    ]
    content[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{project}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_site(folder: Path, version: str = "1.0.0") -> Path:
    """Libraries as pip lays them out: the CPU's runtime and another one."""
    info = f"onnxruntime-{version}.dist-info"
    files = {
        **runtime_files(version),
        "other/__init__.py": b"",
        f"{info}/METADATA": f"Name: onnxruntime\nVersion: {version}\n".encode(),
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    record = "".join(f"{name},,\n" for name in files if not name.startswith("other"))
    (folder / info / "RECORD").write_text(f"{record}../../../bin/tool,,\n")
    return folder


def copy_of_the_installed(*, broken: bool = False) -> dict[str, bytes]:
    """The files of the runtime that these tests run with; `broken`: its library is cut off."""
    site = Path(sysconfig.get_path("platlib"))
    files = {
        path.relative_to(site).as_posix(): path.read_bytes()
        for path in (site / "onnxruntime").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in files:
        if broken and name.startswith("onnxruntime/capi/onnxruntime_pybind11_state"):
            files[name] = files[name][: len(files[name]) // 2] + NUMPY_2
    return files


def digest(data: bytes) -> str:
    """As RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
