"""Puts the agent into NVIDIA's Linux_for_Tegra tree (JetPack 6 and 7), before it is flashed."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.image import appliance, emulation, system
from scripts.image.appliance import SETTINGS_FILE
from scripts.image.boards import Board
from scripts.image.commands import say

BOARD = Board(
    name="jetson",
    table="",
    boot_kind="",
    root_kind="",
    boot_mount="/boot",
    packages=(),
    modules=(),
    console="ttyTCU0,115200",
)
"""Partitions, kernel and firmware are NVIDIA's; the settings file lies in the root's /boot."""
RELEASES = {
    "36": "JetPack 6 (Ubuntu 22.04)",
    "38": "JetPack 7 (Ubuntu 24.04)",
    "39": "JetPack 7.2 (Ubuntu 24.04)",
}
RECOMMENDED = ("python3-pyaudio", "alsa-utils", "avahi-daemon", "libnss-mdns")
_RELEASE_FILE = "etc/nv_tegra_release"
# NVIDIA's system sets these itself, or has other ways to them.
_LEFT_OUT = (
    "etc/fstab",
    "etc/hosts",
    "etc/hostname",
    "etc/systemd/network/",
    "etc/initramfs-tools/",
    "etc/ssh/sshd_config.d/",
    "etc/systemd/system/ssh.service.d/",
    "etc/sudoers.d/",
    "etc/dpkg/",
    "usr/lib/systemd/system/funasr-image-grow.service",
    "usr/lib/funasr-image/grow",
    "usr/lib/funasr-image/boot-files",
)
_UNITS = tuple(unit for unit in appliance.UNITS if unit != "funasr-image-grow.service")

Install = Callable[[Path, Sequence[Path], Sequence[str]], None]
"""(root tree, agent's packages, names of Ubuntu's packages) -> installed."""


@dataclass(frozen=True)
class Tree:
    """A Linux_for_Tegra tree that is fit to be customised."""

    path: Path
    release: str
    """As NVIDIA counts: R36.4."""
    python_tag: str
    """cp310."""

    @property
    def root(self) -> Path:
        """What becomes the board's root file system."""
        return self.path / "rootfs"


def inspect(path: Path) -> Tree:
    """Look at the tree. Raises RuntimeError saying which of NVIDIA's steps is missing."""
    root = path / "rootfs"
    if not (path / "flash.sh").is_file() or not root.is_dir():
        raise RuntimeError(f"{path} is no Linux_for_Tegra tree: flash.sh and rootfs/ are missing")
    if not (root / "usr/bin").is_dir():
        raise RuntimeError(f"{root} is empty; unpack NVIDIA's sample root file system into it")
    release = root / _RELEASE_FILE
    if not release.is_file():
        raise RuntimeError(f"{release} is missing; run sudo ./apply_binaries.sh in {path}")
    found = re.search(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", release.read_text(encoding="utf-8")
    )
    if found is None or found[1] not in RELEASES:
        known = ", ".join(f"R{number}: {name}" for number, name in RELEASES.items())
        raise RuntimeError(f"{release}: a release that is not known here ({known})")
    link = root / "usr/bin/python3"
    python = re.fullmatch(r"(?:.*/)?python3\.(\d+)", os.readlink(link) if link.is_symlink() else "")
    if python is None:
        raise RuntimeError(f"{link} is no link to a Python 3; the sample root file system has one")
    return Tree(path, f"R{found[1]}.{found[2]}", f"cp3{python[1]}")


def choose_packages(tree: Tree, folder: Path) -> list[Path]:
    """The agent's package and the runtime for the tree's Python. Raises RuntimeError."""
    chosen = []
    for pattern in ("funasr-agent_*_all.deb", f"*-runtime-{tree.python_tag}_*_arm64.deb"):
        paths = sorted(folder.glob(pattern))
        if len(paths) != 1:
            raise RuntimeError(
                f"{folder} has {len(paths)} packages {pattern}, one is needed; "
                f"make them with scripts/build-deb --arch arm64"
            )
        chosen += paths
    return chosen


def customise(
    tree: Tree,
    packages: Sequence[Path],
    defaults: str,
    install: Install,
    *,
    recommended: bool = False,
    settings: Path | None = None,
) -> None:
    """Install and set up. `defaults` is the checkout's config.yaml; a second call changes nothing
    but what has changed since."""
    root = tree.root
    install(root, packages, RECOMMENDED if recommended else ())
    for name, (text, mode) in files(defaults).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        os.chown(path, 0, 0)
    for name, leads_to in appliance.LINKS.items():
        if name.startswith("etc/issue.d/"):
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(leads_to)
    (root / "etc/funasr-image").mkdir(exist_ok=True)
    for path in root.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in _UNITS:
        link = wants / unit
        link.unlink(missing_ok=True)
        link.symlink_to(f"/usr/lib/systemd/system/{unit}")
    target = root / "boot" / SETTINGS_FILE
    if settings is not None:
        shutil.copyfile(settings, target)
        target.chmod(0o600)
    elif not target.exists():
        target.write_text(appliance.SETTINGS_TEMPLATE, encoding="utf-8")
        target.chmod(0o600)


def files(defaults: str) -> dict[str, tuple[str, int]]:
    """What of the appliance a Jetson gets: path below the root -> text and mode."""
    found = {
        name: entry
        for name, entry in appliance.files(BOARD, defaults).items()
        if not name.startswith(_LEFT_OUT)
    }
    # Passwords stay as NVIDIA's setup leaves them: it makes an account that has one.
    found["etc/ssh/sshd_config.d/funasr-image.conf"] = (appliance.SSH_KEYS, 0o644)
    return found


def install_inside(root: Path, packages: Sequence[Path], names: Sequence[str]) -> None:
    """The `Install` of a real tree: dpkg in the tree, under emulation where needed."""
    emulation.ready()
    inside = root / "packages"
    inside.mkdir(exist_ok=True)
    try:
        for package in packages:
            shutil.copy(package, inside)
        listed = " ".join(f"/packages/{package.name}" for package in packages)
        script = f"dpkg -i --force-confold {listed}"
        if names:
            fetch = "apt-get -qq -y --no-install-recommends install " + " ".join(names)
            script = f"apt-get -qq update && {fetch} && {script}"
        system.run_inside(root, script)
    finally:
        shutil.rmtree(inside)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the tree is ready to be flashed."""
    parser = argparse.ArgumentParser(prog="scripts/build-image --board jetson", description=__doc__)
    parser.add_argument("--tree", type=Path, required=True, metavar="Linux_for_Tegra")
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    help_text = f"becomes /boot/{SETTINGS_FILE}"
    parser.add_argument("--settings", type=Path, metavar="FILE", help=help_text)
    parser.add_argument(
        "--recommended", action="store_true", help="microphone and mDNS from Ubuntu's mirror"
    )
    parser.add_argument("--dry-run", action="store_true", help="look and tell, change nothing")
    args = parser.parse_args(arguments)
    try:
        tree = inspect(args.tree)
        packages = choose_packages(tree, args.packages)
        say(f"{tree.release}, {RELEASES[tree.release[1:3]]}, Python {tree.python_tag}")
        for package in packages:
            say(f"  {package.name}")
        defaults = (Path(__file__).resolve().parents[2] / "config.yaml").read_text(encoding="utf-8")
        if args.dry_run:
            for name in files(defaults):
                say(f"  would write {tree.root / name}")
            return 0
        if os.geteuid() != 0:
            raise RuntimeError("the tree belongs to root; use sudo")
        customise(
            tree,
            packages,
            defaults,
            install_inside,
            recommended=args.recommended,
            settings=args.settings,
        )
    except (RuntimeError, OSError) as error:
        print(f"build-image: {error}", file=sys.stderr)
        return 1
    say(f"{tree.root} is ready; docs/image.md has the commands that flash it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
