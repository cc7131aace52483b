"""`scripts/build-image`: an image for a board, with its SHA-256 and bill of materials."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from scripts.image import boot_files, disk, emulation, initramfs, jetson, sbom, stock, system
from scripts.image.appliance import SETTINGS_FILE, SETTINGS_TEMPLATE
from scripts.image.boards import BASE_MODULES, BASE_PACKAGES, BOARDS, COLD_PLUG, Board
from scripts.image.commands import missing, run, say

ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "cpio": "cpio",
    "zstd": "zstd",
    "unshare": "util-linux",
    "systemctl": "systemd",
    "dpkg-deb": "dpkg",
}
_EMULATOR = {"qemu-aarch64-static": "qemu-user-static", "update-binfmts": "binfmt-support"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; 0 when the image is there."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--needs" in words:
        native = platform.machine() == "aarch64"
        print(" ".join(missing(_PROGRAMS if native else {**_PROGRAMS, **_EMULATOR})))
        return 0
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--board")
    known, others = first.parse_known_args(words)
    if known.board == "jetson":
        return jetson.main(others)
    if known.board == "stock":
        return stock.main(others)
    args = _parser().parse_args(words)
    if os.geteuid() != 0:
        print("build-image: a system tree needs root: sudo scripts/build-image", file=sys.stderr)
        return 1
    try:
        build(BOARDS[args.board], args)
    except (RuntimeError, OSError) as error:
        print(f"build-image: {error}", file=sys.stderr)
        return 1
    return 0


def build(board: Board, args: argparse.Namespace) -> Path:
    """All steps for one board; the image."""
    started = time.monotonic()

    def step(text: str) -> None:
        say(f"[{time.monotonic() - started:4.0f} s] {text}")

    cache, output = args.cache, args.output
    cache.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    emulation.ready()
    step("the agent's packages")
    packages = args.packages or _build_packages(cache / "deb")
    debs = _select(packages)
    step("Debian's base (the first time: ten minutes or more under emulation)")
    base = system.base_tree(cache, BASE_PACKAGES)
    root = cache / f"root-{board.name}"
    step(f"the board's and the agent's packages, in {root}")
    _board_tree(board, base, debs, root, fresh=args.fresh)
    step("the appliance's own files")
    system.set_up(board, root, (ROOT / "config.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache) as folder:
        scratch = Path(folder)
        image = _assemble(board, root, output, scratch)
    _beside(board, root, image)
    step(f"{image}")
    return image


def _assemble(board: Board, root: Path, output: Path, scratch: Path) -> Path:
    version = system.kernel_version(root)
    overlay = (root / "etc/initramfs-tools/scripts/init-bottom/funasr-overlay").read_text()
    modules = (*BASE_MODULES, *board.modules)
    initramfs.make(root, version, modules, COLD_PLUG, overlay, scratch)
    boot = scratch / "boot"
    boot.mkdir()
    boot_files.lay_out(board, root, version, boot)
    (boot / SETTINGS_FILE).write_text(SETTINGS_TEMPLATE, encoding="utf-8")
    plan = board.plan(system.tree_bytes(root))
    image = output / f"funasr-agent-{__version__}-{board.name}.img"
    disk.write_image(plan, boot, root, image, scratch)
    return image


def _beside(board: Board, root: Path, image: Path) -> None:
    """The packed image, the bill of materials, and the SHA-256 of all."""
    packed = image.with_name(image.name + ".zst")
    run(["zstd", "-q", "-f", "-10", "-T0", str(image), "-o", str(packed)])
    lib = root / "usr/lib/funasr-agent"
    wheels = [*lib.glob("env/lib/python3*/site-packages"), lib / "runtime-cpu"]
    parts = [
        *sbom.debian_parts(system.installed(root)),
        *sbom.wheel_parts(wheels),
        *sbom.model_parts(lib / "models"),
    ]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", image.stat().st_mtime))
    name = f"funasr-agent-image-{board.name}"
    listed = image.with_suffix(".spdx.json")
    document = sbom.document(name, __version__, parts, epoch)
    listed.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in (image, packed, listed))
    image.with_suffix(".sha256").write_text(sums, encoding="utf-8")


def _board_tree(board: Board, base: Path, debs: Sequence[Path], root: Path, *, fresh: bool) -> None:
    """Made again when anything that it is made from has changed."""
    parts = [base.name, *board.packages, *(_sha256(path) for path in debs)]
    stamp = root.with_name(root.name + ".stamp")
    key = "\n".join(parts)
    if not fresh and root.is_dir() and stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    system.board_tree(board, base, debs, root)
    stamp.write_text(key)


def _build_packages(folder: Path) -> Path:
    from scripts.deb.__main__ import main as build_deb

    python = f"3.{system.PYTHON_TAG[3:]}"
    if build_deb(["--arch", "arm64", "--python", python, "--output", str(folder)]):
        raise RuntimeError("the agent's packages could not be built; the lines above say why")
    return folder


def _select(folder: Path) -> list[Path]:
    """The agent's package and the runtime for the image's Python, one of each."""
    found = []
    for pattern in ("funasr-agent_*_all.deb", f"*-runtime-{system.PYTHON_TAG}_*_arm64.deb"):
        paths = sorted(folder.glob(pattern))
        if len(paths) != 1:
            raise RuntimeError(f"{folder} has {len(paths)} packages {pattern}, one is needed")
        found += paths
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/build-image",
        description=__doc__,
        epilog="jetson and stock have options of their own: --board jetson --help",
    )
    parser.add_argument("--board", required=True, choices=(*BOARDS, "jetson", "stock"))
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="packages of scripts/build-deb; else built"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build/image", metavar="DIR")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "build/image-cache", metavar="DIR", help="5 GB"
    )
    parser.add_argument("--fresh", action="store_true", help="install the packages again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
