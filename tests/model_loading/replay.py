"""What a disk holds after a power cut, from the system calls that a process made.

`record` runs a command under strace; `Replay` plays its calls on a model of the disk that keeps
what is written apart from what is synced: the content of a file is safe after fsync of the file,
a name (made, renamed, removed) after fsync of its folder.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,creat,mkdir,mkdirat,write,pwrite64,writev,ftruncate,truncate,fsync,fdatasync,"
    "rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,sendfile,"
    "copy_file_range"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<args>.*)\) += (?P<result>-?\d+)")
_FD_PATH = re.compile(r"^(?:AT_FDCWD|\d+)(?:<(?P<path>[^>]*)>)?$")
_UNTRACED = {"link", "linkat", "symlink", "symlinkat", "sendfile", "copy_file_range", "writev"}


@dataclass(frozen=True)
class Call:
    """One successful system call below the folder that is watched."""

    name: str
    path: Path
    other: Path | None = None
    """Target of a rename."""
    size: int = 0
    """Bytes written, or the new length."""


def record(
    command: Sequence[str], folder: Path, trace: Path, *, codes: Collection[int] = (0,)
) -> list[Call]:
    """Run the command, which must end with one of `codes`; its changes below `folder`, in order."""
    strace = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    done = subprocess.run([*strace, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode in codes, done.stderr
    return calls_below(trace.read_text(encoding="utf-8", errors="replace"), folder)


def calls_below(text: str, folder: Path) -> list[Call]:
    """The calls of strace's output that change something below `folder`."""
    calls: list[Call] = []
    open_calls: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw
        pid = raw.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            open_calls[pid] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)", line):
            line = open_calls.pop(pid) + resumed[1]
        found = _LINE.match(line)
        if found is None or found["result"].startswith("-"):
            continue
        call = _call(found["call"], _arguments(found["args"]), int(found["result"]))
        if call is not None and folder in (call.path, *call.path.parents):
            assert found["call"] not in _UNTRACED, f"the replay does not know {line}"
            calls.append(call)
    return calls


def _call(name: str, args: list[str], result: int) -> Call | None:
    if name == "openat":
        if "O_CREAT" not in args[2] and "O_TRUNC" not in args[2]:
            return None
        return Call("create", _at(args[0], args[1]))
    if name in ("mkdir", "unlink", "rmdir"):
        return Call(name, _quoted(args[0]))
    if name == "mkdirat":
        return Call("mkdir", _at(args[0], args[1]))
    if name == "unlinkat":
        return Call("rmdir" if "AT_REMOVEDIR" in args[2] else "unlink", _at(args[0], args[1]))
    if name == "rename":
        return Call("rename", _quoted(args[0]), _quoted(args[1]))
    if name in ("renameat", "renameat2"):
        return Call("rename", _at(args[0], args[1]), _at(args[2], args[3]))
    descriptor = _FD_PATH.match(args[0])
    if descriptor is None or descriptor["path"] is None:
        return None
    path = Path(descriptor["path"].removesuffix(" (deleted)"))
    if name in ("write", "pwrite64"):
        return Call("write", path, size=result)
    if name == "ftruncate":
        return Call("truncate", path, size=int(args[1]))
    if name in ("fsync", "fdatasync"):
        return Call("fsync", path)
    return Call(name, path)


def _arguments(text: str) -> list[str]:
    """Split at commas outside quotes, as far as paths and flags go."""
    parts, current, quoted, escaped = [], "", False, False
    for char in text:
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
        if char == "," and not quoted:
            parts.append(current.strip())
            current = ""
        else:
            current += char
    return [*parts, current.strip()]


def _quoted(text: str) -> Path:
    return Path(text.strip('"').encode().decode("unicode_escape"))


def _at(folder: str, name: str) -> Path:
    found = _FD_PATH.match(folder)
    base = Path(found["path"]) if found is not None and found["path"] else Path("/")
    return base / _quoted(name)


@dataclass
class Inode:
    """A file or folder: what it holds now, and what of that is safe."""

    folder: bool
    size: int = 0
    safe_size: int = 0
    names: dict[str, Inode] = field(default_factory=dict)
    safe_names: dict[str, Inode] = field(default_factory=dict)
    content: bytes = b""
    """What the file holds in the end; a prefix of it before that."""


Tree = dict[str, bytes]
"""Path below the folder -> content, of every file."""
Snapshot = list[tuple[Inode, int, Path]]
"""Every file with the number of bytes that are safe, and its path."""


class Replay:
    """The folder `after` as a disk would have it on the way there from `before`, of which
    everything is safe."""

    def __init__(self, before: Path, after: Path) -> None:
        self._folder = after
        self._root = _load(before)

    def play(self, call: Call) -> None:
        """One call."""
        if call.name == "fsync":
            node = self._inode(call.path)
            node.safe_size, node.safe_names = node.size, dict(node.names)
            return
        parent = self._inode(call.path.parent)
        name = call.path.name
        if call.name == "create":
            node = parent.names.get(name) or Inode(folder=False)
            node.size = 0
            parent.names[name] = node
        elif call.name == "mkdir":
            parent.names[name] = Inode(folder=True)
        elif call.name in ("unlink", "rmdir"):
            del parent.names[name]
        elif call.name == "rename":
            assert call.other is not None
            self._inode(call.other.parent).names[call.other.name] = parent.names.pop(name)
        elif call.name == "write":
            self._inode(call.path).size += call.size
        elif call.name == "truncate":
            self._inode(call.path).size = call.size
        else:
            raise AssertionError(f"the replay does not know {call}")

    def snapshot(self, *, names: bool) -> Snapshot:
        """What is left when the power is cut now: only what is safe; or, with `names`, every name,
        since a disk may write names before contents."""
        found = _walk(self._root, Path(), safe=not names)
        return [(node, node.safe_size, path) for node, path in found]

    def read_contents(self) -> None:
        """After the last call: what the files hold, read from the real folder, which must be as
        the calls made it."""
        found = _walk(self._root, self._folder, safe=False)
        for node, path in found:
            node.content = path.read_bytes()
            assert len(node.content) == node.size, f"{path}: {node.size} bytes were recorded"
        real = {path for path in self._folder.rglob("*") if path.is_file()}
        assert real == {path for _, path in found}

    @staticmethod
    def tree(snapshot: Snapshot) -> Tree:
        """The snapshot with its contents; files that were removed later hold zeros."""
        return {str(path): node.content[:size].ljust(size, b"\0") for node, size, path in snapshot}

    def _inode(self, path: Path) -> Inode:
        node = self._root
        for part in path.relative_to(self._folder).parts:
            node = node.names[part]
        return node


def _load(path: Path) -> Inode:
    if not path.is_dir():
        data = path.read_bytes()
        return Inode(False, len(data), len(data), content=data)
    names = {entry.name: _load(entry) for entry in path.iterdir() if not entry.is_socket()}
    return Inode(True, names=dict(names), safe_names=dict(names))


def _walk(node: Inode, path: Path, *, safe: bool) -> list[tuple[Inode, Path]]:
    if not node.folder:
        return [(node, path)]
    names = node.safe_names if safe else node.names
    return [found for n, inode in names.items() for found in _walk(inode, path / n, safe=safe)]


def write_tree(tree: Tree, folder: Path) -> None:
    """Make the tree real."""
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.makedirs(folder, exist_ok=True)
