"""Wheels for scripts/test-deb: a copy of the runtime in FOLDER as onnxruntime-gpu 9.0.0, and
one whose library is damaged as 9.1.0. Usage: make_wheels.py FOLDER OUTPUT [3.N]"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

BINDING = "onnxruntime/capi/onnxruntime_pybind11_state"


def make(source: Path, output: Path, version: str, python: str, *, broken: bool) -> None:
    machine = "aarch64" if any(source.glob(f"{BINDING}*aarch64*")) else "x86_64"
    tag, info = f"{python}-{python}-linux_{machine}", f"onnxruntime_gpu-{version}.dist-info"
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted((source / "onnxruntime").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name, data in files.items():
        if broken and name.startswith(BINDING):
            files[name] = data[: len(data) // 2] + b"numpy._core"
    files[f"{info}/METADATA"] = f"Name: onnxruntime-gpu\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nTag: {tag}\n".encode()
    rows = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    with zipfile.ZipFile(output / f"onnxruntime_gpu-{version}-{tag}.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


if __name__ == "__main__":
    here = ".".join(map(str, sys.version_info[:2]))
    tag = "cp" + (sys.argv[3] if len(sys.argv) > 3 else here).replace(".", "")
    make(Path(sys.argv[1]), Path(sys.argv[2]), "9.0.0", tag, broken=False)
    make(Path(sys.argv[1]), Path(sys.argv[2]), "9.1.0", tag, broken=True)
