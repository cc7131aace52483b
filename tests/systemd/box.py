"""A Debian tree with the agent in it, booted by systemd-nspawn: real systemd as PID 1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
"""Debian of the tree; SYSTEMD_TEST_SUITE names another, for which packages are needed."""
PACKAGES = "systemd-sysv,dbus,python3,python3-pyaudio,libgomp1,libstdc++6"
BOOT_S, STOP_S = 60.0, 60.0
_POWER_OFF = signal.SIGRTMIN + 4
_LIB = "usr/lib/funasr-agent"

# A control group tree of its own: the machine's may be of the old kind, or not writable.
_BOOT = """
umount -R -l /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 9
mkdir -p /sys/fs/cgroup/$0 && echo $$ >/sys/fs/cgroup/$0/cgroup.procs || exit 9
exec systemd-nspawn --quiet --register=no --keep-unit --boot --directory "$1" \
    --resolv-conf=off --timezone=off --link-journal=no --console=pipe
"""
_SWEEP = """
umount -R -l /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup || exit 0
find /sys/fs/cgroup/$0 -depth -type d -exec rmdir {} + 2>/dev/null
"""


def base_tree(cache: Path) -> Path:
    """A tar of a small Debian, made once."""
    tar = cache / f"{os.environ.get('SYSTEMD_TEST_SUITE', SUITE)}.tar"
    if not tar.exists():
        cache.mkdir(parents=True, exist_ok=True)
        suite = tar.stem
        options = ["--mode=root", "--variant=minbase", "--format=tar", f"--include={PACKAGES}"]
        options += ['--aptopt=Acquire::Languages "none"']
        options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc")]
        partial = tar.with_suffix(".new")
        command = ["nice", "mmdebstrap", *options, suite, str(partial), *_sources(suite)]
        subprocess.run(command, check=True, capture_output=True, timeout=900)
        partial.replace(tar)
    return tar


def _sources(suite: str) -> list[str]:
    """The machine's own package sources where they are for the same suite."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    if f"VERSION_CODENAME={suite}" not in release:
        return []
    found = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("debian.*")]
    return [str(path) for path in found if path.is_file() and path.stat().st_size]


class Box:
    """One tree: made, booted, powered off, booted again."""

    def __init__(self, tree: Path, tar: Path) -> None:
        self.tree = tree
        self._name = f"funasr-agent-test-{os.getpid()}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of its PID 1, seen from here."""
        self.installed = ""
        self.boot_s = 0.0
        tree.mkdir(parents=True)
        subprocess.run(["tar", "-xf", str(tar), "-C", str(tree)], check=True, timeout=300)
        (tree / "etc/hostname").write_text("funasr-box\n")
        (tree / "etc/machine-id").write_text("")

    def install(self, packages: Sequence[Path]) -> str:
        """Install the packages, without network; else lay out the checkout. What was installed."""
        if packages:
            for package in packages:
                shutil.copy(package, self.tree / "tmp")
            names = " ".join(f"/tmp/{package.name}" for package in packages)
            self._chroot(f"dpkg -i {names}")
            return ", ".join(package.name for package in packages)
        lib = self.tree / _LIB
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pip += ["--target", str(lib), "-c", "constraints.txt", "."]
        subprocess.run(pip, cwd=ROOT, check=True, capture_output=True, timeout=600)
        shutil.copytree(ROOT / "models", lib / "models")
        command = self.tree / "usr/bin/funasr-agent"
        command.write_text(f'#!/bin/sh\nPYTHONPATH=/{_LIB} exec python3 -m agent "$@"\n')
        command.chmod(0o755)
        for kind in ("*.service", "*.timer"):
            for unit in (ROOT / "systemd").glob(kind):
                shutil.copy(unit, self.tree / "usr/lib/systemd/system")
        for kind in ("sysusers", "tmpfiles"):
            target = self.tree / f"usr/lib/{kind}.d/funasr-agent.conf"
            shutil.copy(ROOT / "systemd" / f"{kind}.conf", target)
        self._chroot("systemd-sysusers")
        return "the checkout"

    def write(self, path: str, text: str) -> None:
        """A file of the tree."""
        target = self.tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def boot(self) -> float:
        """Boot it; seconds until systemd called the start finished."""
        started = time.monotonic()
        command = ["unshare", "-m", "--propagation", "private", "bash", "-c", _BOOT]
        log = self.tree.with_name("console.log").open("ab")
        self._nspawn = subprocess.Popen(
            [*command, self._name, str(self.tree)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        while not self._find_init():
            if time.monotonic() > started + BOOT_S or self._nspawn.poll() is not None:
                raise AssertionError(f"the box does not boot:\n{self.console()}")
            time.sleep(0.05)
        while self.run("systemctl is-system-running --wait", check=False) not in (
            "running",
            "degraded",
        ):
            assert time.monotonic() < started + BOOT_S, self.console()
            time.sleep(0.1)
        return time.monotonic() - started

    def power_off(self) -> None:
        """Shut it down in order."""
        if self._nspawn is None:
            return
        if self._nspawn.poll() is None and self.pid:
            os.kill(self.pid, _POWER_OFF)
        try:
            self._nspawn.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(10)
        self._nspawn, self.pid = None, 0
        sweep = ["unshare", "-m", "--propagation", "private", "bash", "-c", _SWEEP, self._name]
        subprocess.run(sweep, check=False, timeout=30)

    def run(self, command: str, *, check: bool = True) -> str:
        """Output of a shell command in the box, stderr with it."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p", "-n", "-C", "--"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*inside, "/bin/sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=180,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}")
        return done.stdout.strip()

    def show(self, key: str, unit: str = "funasr-agent") -> str:
        """A property of a unit."""
        return self.run(f"systemctl show -P {key} {unit}")

    def log(self, since: str = "-1h") -> str:
        """The agent's journal."""
        return self.run(f"journalctl -u funasr-agent -o cat --no-pager --since={since}")

    def threads(self, process: int) -> dict[str, int]:
        """Name -> id as seen from here, of the threads of a process of the box."""
        here = os.readlink(f"/proc/{self.pid}/ns/pid")
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                status = (folder / "status").read_text()
                inside = next(s for s in status.splitlines() if s.startswith("NSpid:")).split()[-1]
                if inside == str(process) and os.readlink(folder / "ns/pid") == here:
                    tasks = list((folder / "task").iterdir())
                    return {(t / "comm").read_text().strip(): int(t.name) for t in tasks}
            except OSError:
                continue  # it has just ended
        raise AssertionError(f"no process {process} in the box")

    def console(self) -> str:
        """What it wrote to its console."""
        return self.tree.with_name("console.log").read_text(errors="replace")[-3000:]

    def _find_init(self) -> bool:
        assert self._nspawn is not None
        below = {self._nspawn.pid}
        for folder in sorted(Path("/proc").iterdir(), key=lambda f: f.name.zfill(10)):
            if not folder.name.isdecimal():
                continue
            try:
                status = (folder / "status").read_text().splitlines()
                parent = next(int(s.split()[1]) for s in status if s.startswith("PPid:"))
                inside = next(s for s in status if s.startswith("NSpid:")).split()[1:]
            except (OSError, StopIteration):
                continue
            if parent in below:
                below.add(int(folder.name))
                if len(inside) > 1 and inside[-1] == "1":
                    self.pid = int(folder.name)
                    return True
        return False

    def _chroot(self, command: str) -> None:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["unshare", "-n", "chroot", str(self.tree), "/bin/sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
