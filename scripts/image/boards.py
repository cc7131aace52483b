"""The boards that images are made for, and how their disks are divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1 << 20
SECTOR_BYTES = 512
ROOT_LABEL = "funasr-root"
BOOT_LABEL = "FUNASR-BOOT"
"""FAT takes 11 characters."""

BASE_PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "systemd-boot-efi",
    "linux-image-arm64",
    "initramfs-tools",
    "busybox-static",
    "python3",
    "python3-pyaudio",
    "alsa-utils",
    "avahi-daemon",
    "libnss-mdns",
    "openssh-server",
    "sudo",
    "systemd-resolved",
    "systemd-timesyncd",
    "iproute2",
    "iputils-ping",
    "procps",
    "ca-certificates",
    "kmod",
    "wpasupplicant",
    "wireless-regdb",
    "iw",
    "e2fsprogs",
    "dosfstools",
    "fdisk",
    "zstd",
    "less",
    "nano-tiny",
    "netbase",
)
"""Of every image; their recommendations stay out."""

BASE_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_mmio",
    "virtio_rng",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "overlay",
    "nvme",
    "sd_mod",
    "ahci",
    "usb_storage",
    "uas",
    "xhci_pci",
    "xhci_plat_hcd",
    "sdhci_pci",
    "sdhci_acpi",
    "mmc_block",
)
"""Loaded first by the first initramfs."""
COLD_PLUG = (
    "drivers/ata",
    "drivers/clk",
    "drivers/mmc",
    "drivers/nvme",
    "drivers/pci",
    "drivers/phy",
    "drivers/pinctrl",
    "drivers/regulator",
    "drivers/reset",
    "drivers/scsi/hisi_sas",
    "drivers/ufs",
    "drivers/usb/dwc3",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/virtio",
)
"""Folders of modules that it loads where the board names such a device and no root was found."""


@dataclass(frozen=True)
class Partition:
    """A slice of the disk, in MiB from the disk's beginning."""

    label: str
    start_mib: int
    size_mib: int
    kind: str
    """A type as sfdisk names it: a GUID in GPT, a hexadecimal number in DOS tables."""
    bootable: bool = False


@dataclass(frozen=True)
class DiskPlan:
    """A partition table with a FAT partition to boot from and an ext4 root."""

    table: str
    """gpt or dos."""
    boot: Partition
    root: Partition

    @property
    def size_mib(self) -> int:
        """Of the disk; GPT keeps its second copy in the last MiB."""
        return self.root.start_mib + self.root.size_mib + 1

    def sfdisk_script(self) -> str:
        """What sfdisk reads to make the table."""
        lines = [f"label: {self.table}"]
        for part in (self.boot, self.root):
            name = f"name={part.label}, " if self.table == "gpt" else ""
            line = f"{name}start={_sectors(part.start_mib)}, size={_sectors(part.size_mib)}"
            lines.append(f"{line}, type={part.kind}" + (", bootable" if part.bootable else ""))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Board:
    """What differs between the boards."""

    name: str
    table: str
    boot_kind: str
    root_kind: str
    boot_mount: str
    """Where the booted system has the FAT partition."""
    packages: tuple[str, ...]
    """Beside BASE_PACKAGES."""
    modules: tuple[str, ...]
    """Beside BASE_MODULES."""
    console: str
    boot_mib: int = 255

    def plan(self, root_bytes: int) -> DiskPlan:
        """The disk for a root tree of that many bytes: a third more, and 256 MiB to live in until
        the first boot has grown the partition."""
        start_mib = 1
        root_mib = -(-root_bytes * 4 // 3 // MIB) + 256
        boot = Partition(
            BOOT_LABEL, start_mib, self.boot_mib, self.boot_kind, bootable=self.table == "dos"
        )
        root = Partition(ROOT_LABEL, start_mib + self.boot_mib, root_mib, self.root_kind)
        return DiskPlan(self.table, boot, root)

    def command_line(self) -> str:
        """The kernel's."""
        words = [f"root=LABEL={ROOT_LABEL}", "ro", "rootwait", *_consoles(self.console)]
        # Classic names: the Wi-Fi settings are for wlan0 on every board.
        return " ".join([*words, "net.ifnames=0", "fsck.repair=yes", "panic=10"])


BOARDS = {
    board.name: board
    for board in (
        Board(
            name="uefi-arm64",
            table="gpt",
            boot_kind="C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            root_kind="B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
            boot_mount="/boot/efi",
            packages=("cloud-guest-utils",),
            modules=(),
            console="ttyAMA0",
        ),
        Board(
            name="rpi",
            # The boot ROM of the Pi 3 reads no GPT.
            table="dos",
            boot_kind="c",
            root_kind="83",
            boot_mount="/boot/firmware",
            packages=("cloud-guest-utils", "raspi-firmware", "firmware-brcm80211"),
            modules=(
                "sdhci_iproc",
                "bcm2835",
                "dwc2",
                "reset_raspberrypi",
                # The Pi 4's card slot gets its power through these.
                "fixed",
                "gpio_regulator",
            ),
            console="ttyS1,115200",
        ),
    )
}
"""Boards with an image of their own. A Jetson's is NVIDIA's (scripts.image.jetson)."""


def _sectors(mib: int) -> int:
    return mib * MIB // SECTOR_BYTES


def _consoles(console: str) -> Sequence[str]:
    """The last one is /dev/console; a screen, where there is one, shows the login as well."""
    return ("console=tty0", f"console={console}")
