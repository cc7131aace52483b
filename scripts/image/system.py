"""Makes the system tree: Debian from its mirror, the agent's packages, the appliance's files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.image import appliance
from scripts.image.boards import BASE_PACKAGES, Board
from scripts.image.commands import run

SUITE = "bookworm"
PYTHON_TAG = "cp311"
"""Of the suite's python3."""
COMPONENTS = "main non-free-firmware"
_DPKG = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
)
_ENABLED = (
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "avahi-daemon.service",
    "ssh.service",
    *appliance.UNITS,
)


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's packages come from: those that apt uses on this machine."""

    debian: str
    security: str | None

    def sources(self) -> list[str]:
        """Lines of a sources.list."""
        lines = [f"deb {self.debian} {suite} {COMPONENTS}" for suite in (SUITE, f"{SUITE}-updates")]
        if self.security:
            lines.append(f"deb {self.security} {SUITE}-security {COMPONENTS}")
        return lines


def machine_mirrors() -> Mirrors:
    """From apt's own lists; $MIRROR and $SECURITY_MIRROR come first."""
    debian, security = os.environ.get("MIRROR"), os.environ.get("SECURITY_MIRROR")
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"]
    )
    for line in listed.splitlines():
        address, _, label = line.partition(" ")
        if label == "Debian":
            debian = debian or address
        elif label == "Debian-Security":
            security = security or address
    if debian is None:
        raise RuntimeError("apt knows no Debian mirror here; set MIRROR to one")
    return Mirrors(debian, security)


def base_tree(cache: Path, packages: Sequence[str] = BASE_PACKAGES) -> Path:
    """A tar of Debian for arm64 with these packages; kept, and made again when the list changes."""
    mirrors = machine_mirrors()
    key = hashlib.sha256("\n".join([SUITE, *sorted(packages), *_DPKG]).encode()).hexdigest()[:12]
    tar = cache / f"base-{SUITE}-{key}.tar"
    if tar.exists():
        return tar
    new = tar.with_suffix(".tar.new")
    command = ["nice", "mmdebstrap", "--quiet", "--mode=root", "--arch=arm64"]
    command += ["--variant=minbase", "--format=tar", '--aptopt=Acquire::Languages "none"']
    command += [f"--dpkgopt={option}" for option in _DPKG]
    command += [f"--include={','.join(packages)}", SUITE, str(new), *mirrors.sources()]
    # No initramfs under emulation, which takes many minutes: scripts.image.initramfs makes it.
    run(command, {"INITRD": "No"})
    new.replace(tar)
    return tar


def board_tree(board: Board, base: Path, packages: Sequence[Path], root: Path) -> None:
    """Unpack the base into `root`, install the board's and the agent's packages in it."""
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    run(["tar", "-C", str(root), "-xf", str(base)])
    inside = root / "packages"
    inside.mkdir()
    for package in packages:
        shutil.copy(package, inside)
    (root / "boot" / Path(board.boot_mount).name).mkdir(exist_ok=True)
    names = " ".join([*board.packages, *(f"/packages/{p.name}" for p in packages)])
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", resolv)
    run_inside(
        root,
        "apt-get -qq update && apt-get -qq -y --no-install-recommends "
        f"-o Dpkg::Options::=--force-unsafe-io install {names} && apt-get clean",
    )
    shutil.rmtree(inside)


def set_up(board: Board, root: Path, defaults: str) -> None:
    """Write the appliance's files into the tree and take out what each box has to make itself."""
    for name, (text, mode) in appliance.files(board, defaults).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
    (root / "etc/funasr-image/ssh_keys").mkdir(parents=True, exist_ok=True)
    for name, target in appliance.LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)
    for path in [*root.glob("etc/ssh/ssh_host_*"), *root.glob("var/lib/apt/lists/*_*")]:
        path.unlink()
    # Quick for the build; on the box an update must outlive a power cut.
    for path in root.glob("etc/dpkg/dpkg.cfg.d/*"):
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.strip() != "force-unsafe-io"]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    # Hidden below the boot partition once it is mounted.
    boot = root / board.boot_mount.lstrip("/")
    shutil.rmtree(boot, ignore_errors=True)
    boot.mkdir()
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (root / "var/lib/systemd/random-seed").unlink(missing_ok=True)
    (root / "var/log/journal").mkdir(exist_ok=True)
    admin = appliance.ADMIN
    run_inside(
        root,
        f"id {admin} 2>/dev/null || useradd --create-home --shell /bin/bash "
        f"--groups audio,sudo,systemd-journal {admin}; passwd -q -l root; passwd -q -l {admin}",
    )
    run(["systemctl", f"--root={root}", "--quiet", "enable", *_ENABLED])
    run(["systemctl", f"--root={root}", "--quiet", "mask", "systemd-firstboot.service"])


def run_inside(root: Path, script: str) -> str:
    """Run a shell script in the tree, apart from this machine's processes and devices."""
    outer = (
        'mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev" && '
        'for n in null zero full random urandom; do cp -a "/dev/$n" "$0/dev"; done && '
        'ln -s /proc/self/fd "$0/dev/fd" && '
        'mkdir "$0/dev/shm" "$0/dev/pts" && mount -t devpts devpts "$0/dev/pts" && '
        'mount -t tmpfs tmpfs "$0/tmp" && '
        # raspi-firmware wants a mounted partition there.
        'b=$0/boot/firmware; if [ -d "$b" ]; then mount --bind "$b" "$b"; fi; '
        'exec chroot "$0" /bin/sh -ec "$1"'
    )
    environment = {
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "INITRD": "No",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }
    command = ["nice", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return run([*command, "bash", "-c", outer, str(root), script], environment)


def kernel_version(root: Path) -> str:
    """Of the newest kernel in the tree."""
    versions = [path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*")]
    if not versions:
        raise RuntimeError(f"{root}: no kernel in boot/")
    return max(versions, key=lambda version: [int(n) for n in re.findall(r"\d+", version)])


def tree_bytes(root: Path) -> int:
    """What the files below need on an ext4 of 4 KiB blocks."""
    total, seen = 0, set()
    for folder, folders, names in os.walk(root):
        for name in [*names, *folders]:
            status = os.lstat(os.path.join(folder, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += -(-status.st_size // 4096) * 4096 + 256
    return total


def installed(root: Path) -> str:
    """dpkg's list of the tree: name, version, architecture, source, a tab between them."""
    form = "${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\n"
    command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", f"--showformat={form}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
