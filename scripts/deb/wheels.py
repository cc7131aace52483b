"""Gets the libraries of a target as wheels, without running anything that is made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from scripts.deb.control import Target

UNUSED = (
    "bin",
    "share",
    ".lock",
    "isympy.py",
    "coloredlogs.pth",
    "numpy/**/tests",
    "onnx/backend/test",
    "sympy/**/tests",
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "**/__pycache__",
)
"""Tests and tools of the libraries that nothing here imports."""
ONNXRUNTIME = ("onnxruntime", "onnxruntime-*.dist-info")
_NEEDED_UV = "uv>=0.5"


class BuildError(Exception):
    """What can't be built, and why."""


def requirements() -> list[str]:
    """What the agent itself needs, as the installed package says (pyproject.toml), no extras."""
    return [text for text in metadata.requires("funasr-agent") or () if "extra ==" not in text]


def ready_uv(folder: Path) -> Path:
    """The tool uv, installed with pip into an environment in `folder` on the first call."""
    uv = folder / "bin" / "uv"
    if not uv.exists():
        _run([sys.executable, "-m", "venv", str(folder)])
        python = folder / "bin" / "python"
        _run([str(python), "-m", "pip", "install", "-qq", _NEEDED_UV])
    return uv


def index_options() -> dict[str, str]:
    """pip's configuration of this machine as uv's environment. uv does not read pip's.

    Extra indices are left out: what they have is built for one kind of board.
    """
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    options = {}
    for line in found.stdout.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name:
            options[name] = value.strip("'\"")
    return options


def install_wheels(uv: Path, target: Target, root: Path, into: Path) -> None:
    """The libraries of `target` in the versions of constraints.txt, in the folder `into`.

    Raises BuildError.
    """
    command = [str(uv), "pip", "install", "-q", "--target", str(into)]
    command += ["--python-platform", target.platform, "--python-version", target.version]
    command += ["--only-binary", ":all:", "--no-compile-bytecode", "--link-mode", "copy"]
    command += ["-c", str(root / "constraints.txt"), *requirements()]
    _run(command, index_options())
    for pattern in UNUSED:
        for path in sorted(into.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def install_agent(uv: Path, root: Path, into: Path, scratch: Path) -> None:
    """The agent's own package and its metadata. Raises BuildError.

    Built from a copy of what git tracks, so that neither remains of an earlier build nor
    files that lie about get in.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "agent", "pyproject.toml", "README.md"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    if not names:
        raise BuildError(f"{root}: git lists no files here; build from a checkout")
    for name in names:
        if (root / name).is_file():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, scratch / name)
    command = [str(uv), "pip", "install", "-q", "--no-deps", "--target", str(into)]
    _run([*command, "--no-compile-bytecode", str(scratch)], index_options())
    shutil.rmtree(into / "bin", ignore_errors=True)
    (into / ".lock").unlink(missing_ok=True)
    for path in into.glob("*.dist-info/direct_url.json"):  # names a folder of this machine
        path.unlink()


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise BuildError(f"{' '.join(command[:3])} failed ({done.returncode}):\n{said}")
