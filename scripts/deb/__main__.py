"""`scripts/build-deb`: the packages for every Python and architecture, in build/deb."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from scripts.deb import elf, trees, wheels
from scripts.deb.control import (
    AGENT,
    ARCHITECTURES,
    PYTHONS,
    Target,
    agent_fields,
    control_text,
    runtime_fields,
)
from scripts.deb.wheels import BuildError

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; 0 when every package was made."""
    args = _parser().parse_args(arguments)
    targets = [Target(python, arch) for arch in args.arch for python in args.python]
    try:
        if shutil.which("dpkg-deb") is None:
            raise BuildError("dpkg-deb is missing; build on Debian or Ubuntu")
        args.output.mkdir(parents=True, exist_ok=True)
        uv = wheels.ready_uv(ROOT / "build" / "deb-tools")
        made = [] if args.runtime_only else [_build_agent(uv, args)]
        for target in () if args.agent_only else targets:
            made.append(_build_runtime(uv, target, args))
    except BuildError as error:
        print(f"build-deb: {error}", file=sys.stderr)
        return 1
    sums = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in made)
    (args.output / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/build-deb", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "deb", metavar="DIR", help="build/deb"
    )
    parser.add_argument(
        "--arch", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES, help="default: both"
    )
    parser.add_argument(
        "--python",
        nargs="+",
        type=_python,
        default=PYTHONS,
        metavar="3.N",
        help="default: 3.10 to 3.13",
    )
    parser.add_argument(
        "--version", default=__version__, help="of the packages; default: the agent's"
    )
    parser.add_argument(
        "--compress",
        choices=("zstd", "xz"),
        default="zstd",
        help="xz: a fifth smaller, takes minutes",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--agent-only", action="store_true", help="no runtime packages")
    which.add_argument("--runtime-only", action="store_true", help="not the agent's package")
    return parser


def _python(text: str) -> tuple[int, int]:
    for python in PYTHONS:
        if text == ".".join(map(str, python)):
            return python
    raise argparse.ArgumentTypeError(f"{text} is none of 3.10 to 3.13")


def _build_agent(uv: Path, args: argparse.Namespace) -> Path:
    with tempfile.TemporaryDirectory(prefix="build-deb-") as scratch:
        tree = Path(scratch) / "tree"
        units = trees.lay_out_agent(ROOT, tree)
        if "funasr-agent.service" not in units:
            print("build-deb: systemd/funasr-agent.service is missing", file=sys.stderr)
        wheels.install_agent(uv, ROOT, tree / trees.LIB, Path(scratch) / "source")
        trees.add_documentation(ROOT, tree, AGENT)
        fields = agent_fields(args.version, trees.size_kb(tree))
        values = {"UNITS": " ".join(units)}
        trees.add_control(tree, control_text(fields), "agent", values)
        return _pack(tree, f"{AGENT}_{args.version}_all.deb", args)


def _build_runtime(uv: Path, target: Target, args: argparse.Namespace) -> Path:
    with tempfile.TemporaryDirectory(prefix="build-deb-") as scratch:
        libraries, tree = Path(scratch) / "wheels", Path(scratch) / "tree"
        wheels.install_wheels(uv, target, ROOT, libraries)
        problems = elf.problems(libraries, target.architecture)
        if problems:
            raise BuildError(f"{target.package}, {target.architecture}:\n" + "\n".join(problems))
        trees.lay_out_runtime(target, libraries, tree)
        trees.add_documentation(ROOT, tree, target.package)
        fields = runtime_fields(target, args.version, trees.size_kb(tree))
        trees.add_control(tree, control_text(fields), "runtime", {"TAG": target.tag})
        name = f"{target.package}_{args.version}_{target.architecture}.deb"
        return _pack(tree, name, args)


def _pack(tree: Path, name: str, args: argparse.Namespace) -> Path:
    epoch = _epoch()
    trees.settle(tree, epoch)
    path: Path = args.output / name
    started = time.monotonic()
    level = {"xz": "6", "zstd": "10"}[args.compress]
    # Ubuntu 22.04 and Debian 12 read both; before Debian 12 dpkg knew no zstd.
    command = ["dpkg-deb", "--root-owner-group", f"-Z{args.compress}", f"-z{level}", "-b"]
    done = subprocess.run(
        [*command, str(tree), str(path)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{name}: {done.stderr.strip()}")
    size, unpacked = path.stat().st_size / 1e6, trees.size_kb(tree) * 1024 / 1e6
    took = time.monotonic() - started
    print(f"{path}  {size:.1f} MB, {unpacked:.0f} MB installed, packed in {took:.0f} s", flush=True)
    return path


def _epoch() -> int:
    """Time that the files get: of the last commit, so that equal sources give equal packages."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise BuildError(f"{ROOT}: git knows no commit here; set SOURCE_DATE_EPOCH")
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
