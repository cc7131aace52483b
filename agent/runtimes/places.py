"""Where the runtime lies and how another takes its place: in a checkout, and in the package."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from agent.config import PACKAGE_ROOT
from agent.runtimes.swap import finish_swap, read_plan, start_swap
from agent.runtimes.wheel import MODULE, sync_folder

CPU_FOLDER = "runtime-cpu"
GPU_FOLDER = "gpu"
LINK = MODULE
STORE = ".funasr-agent-runtimes"
"""Beside the libraries of a checkout; a name that can't be imported."""


@dataclass(frozen=True)
class Installed:
    """The runtime in use."""

    name: str
    version: str
    replaced: bool
    """Whether another took the place of the one that came with the agent."""


class Place(Protocol):
    """A place for the runtime. Its folders may be changed by their owner only."""

    root: Path
    """Everything below lies on its disk."""

    def recover(self) -> None:
        """Complete or clear away what was cut off."""

    def installed(self) -> Installed:
        """The one in use."""

    def stage(self) -> Path:
        """A new empty folder for a runtime."""

    def put(self, staged: Path) -> None:
        """`staged` becomes the one in use; what was in use is kept."""

    def back(self) -> None:
        """What was in use before the last `put` is in use again."""

    def settle(self) -> None:
        """The last `put` stands: let go of what is not needed any more."""

    def restore(self) -> None:
        """The one that came with the agent is in use again."""


class LinkedPlace:
    """The package's: a link leads to the runtime in use and is replaced by one rename.

    `root` holds `runtime-cpu`, `gpu/` and the link `onnxruntime`.
    """

    def __init__(self, root: Path, tag: str) -> None:
        self.root = root
        self._tag = tag
        self._before = ""

    def recover(self) -> None:
        """Complete or clear away what was cut off."""
        if not (self.root / LINK).is_dir():
            self._lead(CPU_FOLDER)
        self.settle()

    def installed(self) -> Installed:
        """The one in use."""
        name, version = _named(self.root / LINK)
        return Installed(name, version, self._target() != CPU_FOLDER)

    def stage(self) -> Path:
        """A new empty folder for a runtime."""
        (self.root / GPU_FOLDER).mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{self._tag}-", dir=self.root / GPU_FOLDER))
        folder.chmod(0o755)
        return folder

    def put(self, staged: Path) -> None:
        """`staged` becomes the one in use; what was in use is kept."""
        self._before = self._target()
        self._lead(f"{GPU_FOLDER}/{staged.name}")

    def back(self) -> None:
        """What was in use before the last `put` is in use again."""
        self._lead(self._before or CPU_FOLDER)
        self.settle()

    def settle(self) -> None:
        """The last `put` stands: let go of what is not needed any more."""
        for folder in sorted((self.root / GPU_FOLDER).glob("*")):
            if self._target() != f"{GPU_FOLDER}/{folder.name}":
                shutil.rmtree(folder)

    def restore(self) -> None:
        """The one that came with the agent is in use again."""
        self._lead(CPU_FOLDER)
        self.settle()

    def _target(self) -> str:
        link = self.root / LINK
        return os.readlink(link) if link.is_symlink() else ""

    def _lead(self, target: str) -> None:
        new = self.root / f".{LINK}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(self.root / LINK)
        sync_folder(self.root)


class SitePlace:
    """A checkout's: `root` is the environment's site-packages, where pip put the CPU's runtime.

    What is not in use lies in the folder STORE: `new`, and `cpu` for the way back.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = root / STORE
        self._new = self._store / "new"
        self._cpu = self._store / "cpu"
        self._journal = self._store / "swap.json"

    def recover(self) -> None:
        """Complete or clear away what was cut off."""
        if read_plan(self._journal) is not None:
            self.settle()
        elif self._new.is_dir():
            shutil.rmtree(self._new)

    def installed(self) -> Installed:
        """The one in use."""
        name, version = _named(self.root)
        return Installed(name, version, self._cpu.is_dir())

    def stage(self) -> Path:
        """A new empty folder for a runtime."""
        self._new.mkdir(parents=True)
        return self._new

    def put(self, staged: Path) -> None:
        """`staged` becomes the one in use; what was in use is kept."""
        old = self._entries()
        keep = bool(old) and not self._cpu.is_dir()
        start_swap(self.root, staged, old, self._journal, keep=keep)

    def back(self) -> None:
        """What was in use before the last `put` is in use again."""
        start_swap(self.root, self._new, self._entries(), self._journal, keep=False)
        self.settle()

    def settle(self) -> None:
        """The last `put` stands: let go of what is not needed any more."""
        plan = read_plan(self._journal)
        if plan is None:
            return
        finish_swap(self.root, plan)
        other = Path(plan.other)
        if other.is_dir():
            if plan.keep:
                other.rename(self._cpu)
                sync_folder(self._store)
            else:
                shutil.rmtree(other)
        self._journal.unlink()

    def restore(self) -> None:
        """The one that came with the agent is in use again."""
        if self._cpu.is_dir():
            start_swap(self.root, self._cpu, self._entries(), self._journal, keep=False)
            self.settle()

    def _entries(self) -> list[str]:
        """Names in site-packages that belong to the runtime in use."""
        found = [MODULE] if (self.root / MODULE).exists() else []
        for dist in _providers(self.root):
            tops = {path.parts[0] for path in dist.files or ()} - {"..", MODULE}
            found += [name for name in sorted(tops) if (self.root / name).exists()]
        return found


def find_place() -> Place:
    """That of this installation."""
    if (PACKAGE_ROOT / CPU_FOLDER).is_dir():
        return LinkedPlace(PACKAGE_ROOT, f"cp{sys.version_info[0]}{sys.version_info[1]}")
    return SitePlace(Path(sysconfig.get_path("platlib")))


def _named(folder: Path) -> tuple[str, str]:
    """Name and version of the runtime in a folder of libraries; empty: there is none."""
    for dist in _providers(folder):
        return str(dist.metadata["Name"]), str(dist.version)
    return "", ""


def _providers(folder: Path) -> list[metadata.Distribution]:
    if not folder.is_dir():
        return []
    return [
        dist
        for dist in metadata.distributions(path=[str(folder)])
        if any(str(path) == f"{MODULE}/__init__.py" for path in dist.files or ())
    ]
