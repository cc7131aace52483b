"""The first initramfs, made without running a program of the target.

mkinitramfs takes minutes under emulation. This one holds busybox, the modules that lead to the root
file system, and the image's overlay script; the box makes its own at the first kernel update.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t tmpfs -o mode=0755,nosuid,nodev run /run
while read -r module; do insmod "$module" 2>/dev/null; done </modules
# A name may wait for another's driver, so this is done again until the root is there.
load_drivers() {
    find /sys/devices -name modalias -exec cat {} + | sort -u | xargs -n 1 modprobe -q
}
for word in $(cat /proc/cmdline); do case $word in root=*) wanted=${word#root=} ;; esac; done
tries=0
while :; do
    case $wanted in
        LABEL=* | UUID=*) device=$(findfs "$wanted" 2>/dev/null) ;;
        *) device=$wanted ;;
    esac
    if [ -n "$device" ] && [ -b "$device" ]; then break; fi
    tries=$((tries + 1))
    if [ $tries -gt 300 ]; then
        echo "No root file system $wanted was found in 30 s; restarting."; sleep 10; reboot -f
    fi
    if [ $((tries % 10)) = 3 ]; then load_drivers 2>/dev/null; fi
    sleep 0.1
done
rootmnt=/newroot; export rootmnt
if ! mount -t ext4 -o ro "$device" $rootmnt; then
    echo "$device can't be mounted; restarting."; sleep 10; reboot -f
fi
sh /overlay
for place in dev proc sys run; do mount --move /$place $rootmnt/$place; done
exec switch_root $rootmnt /sbin/init
"""


def make(
    root: Path,
    version: str,
    modules: Iterable[str],
    folders: Iterable[str],
    overlay: str,
    scratch: Path,
) -> Path:
    """Write boot/initrd.img-VERSION in the tree `root`, for its kernel; the file. `modules` are
    loaded first, those in `folders` (below the kernel's) where the board has such a device."""
    tree = scratch / "initramfs"
    for name in ("bin", "dev", "proc", "sys", "run", "newroot"):
        (tree / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "bin/busybox")
    paths = module_paths(root, version, modules)
    lists = [f"lib/modules/{version}/modules.{name}" for name in ("dep", "alias", "builtin")]
    for path in dict.fromkeys([*paths, *folder_modules(root, version, folders), *lists]):
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, target)
    (tree / "modules").write_text("".join(f"/{path}\n" for path in paths), encoding="utf-8")
    (tree / "overlay").write_text(overlay, encoding="utf-8")
    (tree / "init").write_text(_INIT, encoding="utf-8")
    (tree / "init").chmod(0o755)
    names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0", "--reproducible"],
        cwd=tree,
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    packed = subprocess.run(
        ["zstd", "-q", "-19", "-c"], input=archive, capture_output=True, check=True
    ).stdout
    target = root / "boot" / f"initrd.img-{version}"
    target.write_bytes(packed)
    # As initramfs-tools notes what it made: without a note it would never update the file.
    note = root / "var/lib/initramfs-tools" / version
    note.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha1(packed, usedforsecurity=False).hexdigest()
    note.write_text(f"{digest}  /boot/initrd.img-{version}\n", encoding="utf-8")
    return target


def module_paths(root: Path, version: str, modules: Iterable[str]) -> list[str]:
    """The modules' files and those that they need, below `root`, in the order to load them.
    What is built into the kernel, or not made for it, has none."""
    found: dict[str, None] = {}
    for module in modules:
        done = subprocess.run(
            ["modprobe", "-d", str(root), "-S", version, "--show-depends", module],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            word, _, path = line.partition(" ")
            if word == "insmod":
                inside = Path(path.split()[0]).relative_to(root)
                found[str(inside)] = None
    if not found:
        raise RuntimeError(f"{root}: no module of {version} was found; is its depmod list there?")
    return list(found)


def folder_modules(root: Path, version: str, folders: Iterable[str]) -> list[str]:
    """The modules in those folders and those that they need, below `root`, after depmod's list."""
    base = f"lib/modules/{version}"
    starts = tuple(f"kernel/{folder}/" for folder in folders)
    found: dict[str, None] = {}
    for line in (root / base / "modules.dep").read_text(encoding="ascii").splitlines():
        module, _, needed = line.partition(":")
        if module.startswith(starts):
            found.update((f"{base}/{name}", None) for name in (module, *needed.split()))
    return list(found)
