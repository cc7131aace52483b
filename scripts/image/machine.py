"""A virtual arm64 board in QEMU that boots an image: forwarded ports, console log, power cut."""

from __future__ import annotations

import platform
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

FIRMWARE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
VARIABLES = Path("/usr/share/AAVMF/AAVMF_VARS.fd")
MEMORY_MIB = 2048
_STOP_S = 10


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """One board; `power_on` and `power_cut` as often as wanted, the disk stays."""

    def __init__(self, disk: Path, folder: Path, guest_ports: tuple[int, ...]) -> None:
        """`folder` gets the console's log and the firmware's variables."""
        self.ports: Mapping[int, int] = {port: free_port() for port in guest_ports}
        """Port of the board -> port of this machine that leads there."""
        self._disk, self._folder = disk, folder
        self._boots = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def console(self) -> Path:
        """Log of the serial console since the last power-on."""
        return self._folder / f"console-{self._boots}.log"

    def power_on(self) -> None:
        """Start; returns at once."""
        if self._process is not None:
            raise RuntimeError("the board is on already")
        self._boots += 1
        variables = self._folder / "variables.fd"
        if not variables.exists():
            shutil.copy(VARIABLES, variables)
        with (self._folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def running(self) -> bool:
        """Whether the board has power."""
        return self._process is not None and self._process.poll() is None

    def power_cut(self) -> None:
        """What the board had not written is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_STOP_S)
            self._process = None

    def wait_off(self, limit_s: float) -> None:
        """Until the board has switched itself off, as after `poweroff`."""
        if self._process is not None:
            self._process.wait(limit_s)
            self._process = None

    def _command(self, variables: Path) -> list[str]:
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in self.ports.items()
        )
        native = platform.machine() == "aarch64" and Path("/dev/kvm").exists()
        board = ["-machine", "virt,gic-version=3", "-cpu", "cortex-a72"]
        board += ["-accel", "tcg,thread=multi"]
        if native:
            board = ["-machine", "virt,gic-version=host", "-cpu", "host", "-accel", "kvm"]
        return [
            *("nice", "-n", "10", "qemu-system-aarch64"),
            *board,
            *("-smp", "2", "-m", str(MEMORY_MIB), "-nographic", "-nodefaults"),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
            *("-drive", f"if=none,id=disk,format=raw,file={self._disk},cache=writeback"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci", "-serial", f"file:{self.console}", "-monitor", "none"),
        ]
