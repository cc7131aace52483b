"""`scripts/test-image-trees`: the Jetson customiser and the stock system's script on Debian arm64.

NVIDIA's tree itself is not at hand: its root file system is played by Debian's, with the files that
the customiser looks at. Programs of arm64 run under emulation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.deb import elf
from scripts.image import emulation, jetson, stock, system
from scripts.image.boards import BASE_PACKAGES
from scripts.image.commands import run, say

ROOT = Path(__file__).resolve().parents[2]
_CHECK = "funasr-agent config check --config /etc/funasr-agent/config.yaml"
_IMPORT = (
    "/usr/lib/funasr-agent/env/bin/python3 -I -c 'import onnxruntime, numpy; "
    "print(onnxruntime.__version__, numpy.__version__)'"
)


def try_jetson(base: Path, packages: Path, work: Path) -> None:
    """Customise a tree laid out like NVIDIA's. Raises RuntimeError when something is amiss."""
    tree = work / "Linux_for_Tegra"
    root = tree / "rootfs"
    _unpack(base, root)
    (tree / "flash.sh").touch()
    (root / "etc/nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.4, GCID: 0, BOARD: generic, EABI: aarch64, DATE: -\n"
    )
    arguments = ["--tree", str(tree), "--packages", str(packages)]
    for attempt in ("first", "second"):
        if jetson.main(arguments):
            raise RuntimeError(f"the {attempt} run failed")
    _need_agent(root)
    drop_in = root / "usr/lib/systemd/system/funasr-agent.service.d/jetson.conf"
    _need(drop_in.is_symlink(), f"{drop_in} is missing: the package did not see a Jetson")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    for unit in ("funasr-agent.service", "funasr-image-settings.service"):
        _need((wants / unit).is_symlink(), f"{unit} is not enabled")
    _need(not (root / "packages").exists(), "the packages were left behind")


def try_stock(base: Path, packages: Path, work: Path) -> None:
    """Run first-boot.sh in a tree. Raises RuntimeError when something is amiss."""
    root = work / "stock"
    _unpack(base, root)
    boot = root / "boot/firmware"
    boot.mkdir(parents=True)
    line = "root=LABEL=x rootwait"
    (boot / "cmdline.txt").write_text(f"{line} systemd.run=/boot/firmware/first-boot.sh\n")
    defaults = (ROOT / "config.yaml").read_text(encoding="utf-8")
    stock.lay_out(packages, defaults, boot)
    told = system.run_inside(root, "sh /boot/firmware/funasr-agent/first-boot.sh")
    say(told.strip())
    _need_agent(root)
    _need((boot / "cmdline.txt").read_text() == f"{line}\n", "it is still on the command line")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when both are as they should be."""
    parser = argparse.ArgumentParser(prog="scripts/test-image-trees", description=__doc__)
    parser.add_argument("--packages", type=Path, default=ROOT / "build/deb", metavar="DIR")
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / "build/image-cache",
        metavar="DIR",
        help="as build-image",
    )
    args = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("test-image-trees: system trees need root", file=sys.stderr)
        return 1
    work = args.cache / "trees"
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        emulation.ready()
        base = system.base_tree(args.cache, BASE_PACKAGES)
        for name, step in (("Jetson", try_jetson), ("stock system", try_stock)):
            started = time.monotonic()
            step(base, args.packages, work)
            say(f"{name}: as it should be, {time.monotonic() - started:.0f} s")
    except (RuntimeError, OSError) as error:
        print(f"test-image-trees: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(work)
    return 0


def _need_agent(root: Path) -> None:
    """The agent is installed for arm64, owned and configured as on a device."""
    lib = root / "usr/lib/funasr-agent"
    problems = elf.problems(lib, "arm64")
    _need(not problems, "\n".join(problems))
    users = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    fields = next(line.split(":") for line in users if line.startswith("funasr-agent:"))
    state = (root / "var/lib/funasr-agent").stat()
    _need(state.st_uid == int(fields[2]) != 0, "the state folder is not the agent's own")
    for path in (root / "etc/funasr-agent/config.yaml", lib, lib / "models"):
        status = path.stat()
        _need(status.st_uid == 0 and not status.st_mode & 0o022, f"{path} can be changed by others")
    say(system.run_inside(root, _CHECK).strip())
    say(f"onnxruntime, numpy: {system.run_inside(root, _IMPORT).strip()}")


def _unpack(base: Path, root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    run(["tar", "-C", str(root), "-xf", str(base)])


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
