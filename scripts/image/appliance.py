"""Everything that the image sets up around the agent, as text; nothing else decides about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.deb.conffile import Listener, device_config
from scripts.image.boards import BOOT_LABEL, ROOT_LABEL, Board

HOST_NAME = "funasr-agent"
ADMIN = "admin"
SETTINGS_FILE = "funasr-agent.txt"

IMAGE_LISTENERS = (
    Listener(80, False, "leads browsers to https"),
    Listener(443, True, "the page and the API"),
    Listener(10095, True, "FunASR clients, wss"),
    Listener(10096, False, "FunASR clients, ws"),
)

ISSUE = r"""
  FunASR agent, speech to text on this box

  Open          https://\n.local  or  https://\4

"""
AVAHI_SERVICE = """\
<?xml version="1.0" standalone='no'?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group>
  <name replace-wildcards="yes">FunASR agent on %h</name>
  <service><type>_https._tcp</type><port>443</port><txt-record>path=/</txt-record></service>
  <service><type>_http._tcp</type><port>80</port><txt-record>path=/</txt-record></service>
  <service><type>_funasr._tcp</type><port>10095</port><txt-record>tls=1</txt-record></service>
</service-group>
"""
SETTINGS_TEMPLATE = """\
# Settings of this box, read at every start. Remove the # in front of a line and change its value.
# What is wrong here is told on the console and in the journal; the rest applies.

#hostname = funasr-agent
#wifi_ssid = name of the network
#wifi_password = its password
#wifi_country = DE

# A line of a .pub file; several lines are fine. It opens: ssh admin@funasr-agent.local
#ssh_key = ssh-ed25519 AAAA... me@desk

# Access code of the page and the API, 16 characters or more; without one the box makes its own.
#token =

# yes: the system is only read from now on and forgets at every start what was changed, apart from
# the agent's own state (models, transcripts).
#read_only = no
"""
_NETWORK = """\
[Match]
Type=ether wlan
[Network]
DHCP=yes
IPv6AcceptRA=yes
# Avahi answers for the box's name.
MulticastDNS=no
[DHCPv4]
UseDomains=yes
"""
SSH_KEYS = "AuthorizedKeysFile .ssh/authorized_keys /etc/funasr-image/ssh_keys/%u\n"
"""sshd: the keys of the settings file beside those that a user has put at home."""
_SSHD = f"""\
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {ADMIN}
{SSH_KEYS}"""
_SSH_DROPIN = f"""\
# No key, no server.
[Unit]
ConditionPathExists=|/etc/funasr-image/ssh_keys/{ADMIN}
ConditionPathExists=|/home/{ADMIN}/.ssh/authorized_keys
"""
_JOURNAL = "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitBurst=5000\n"

UNITS = (
    "funasr-image-settings.service",
    "funasr-image-grow.service",
    "funasr-image-keys.service",
    "funasr-image-console.service",
    "funasr-image-console.path",
)
LINKS = {
    "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
    "etc/issue.d/60-access.issue": "/run/funasr-image/access.issue",
    "etc/issue.d/70-settings.issue": "/run/funasr-image/settings.issue",
}
"""Path below the root -> where the symbolic link leads."""
PROGRAMS = ("settings.py", "console.py", "grow", "boot-files")
_LIB = "usr/lib/funasr-image"


def agent_config(defaults: str) -> str:
    """config.yaml of the image, from the checkout's."""
    return device_config(defaults, IMAGE_LISTENERS)


def files(board: Board, defaults: str) -> Mapping[str, tuple[str, int]]:
    """Path below the root -> text and mode. `defaults` is the checkout's config.yaml."""
    found: dict[str, tuple[str, int]] = {
        "etc/hostname": (f"{HOST_NAME}\n", 0o644),
        "etc/hosts": (f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {HOST_NAME}\n", 0o644),
        # Empty: made at the first boot, so that no two boxes have the same.
        "etc/machine-id": ("", 0o444),
        "etc/fstab": (fstab(board), 0o644),
        "etc/issue": (ISSUE, 0o644),
        "etc/funasr-agent/config.yaml": (agent_config(defaults), 0o644),
        "etc/avahi/services/funasr-agent.service": (AVAHI_SERVICE, 0o644),
        "etc/systemd/network/80-dhcp.network": (_NETWORK, 0o644),
        "etc/systemd/journald.conf.d/funasr-image.conf": (_JOURNAL, 0o644),
        "etc/ssh/sshd_config.d/funasr-image.conf": (_SSHD, 0o644),
        "etc/systemd/system/ssh.service.d/funasr-image.conf": (_SSH_DROPIN, 0o644),
        f"etc/sudoers.d/{ADMIN}": (f"{ADMIN} ALL=(ALL) NOPASSWD: ALL\n", 0o440),
        # An update asks nobody: there is nobody at the console.
        "etc/dpkg/dpkg.cfg.d/funasr-image": ("force-confold\n", 0o644),
        "etc/default/locale": ("LANG=C.UTF-8\n", 0o644),
        "etc/environment": ("ORT_DISABLE_TELEMETRY=1\n", 0o644),
        "etc/initramfs-tools/modules": ("overlay\n", 0o644),
        "etc/initramfs-tools/scripts/init-bottom/funasr-overlay": (_device("overlay"), 0o755),
    }
    for name in PROGRAMS:
        found[f"{_LIB}/{name}"] = (_device(name), 0o644 if name.endswith(".py") else 0o755)
    for name in UNITS:
        text = _device(name).replace("@BOOT@", board.boot_mount)
        found[f"usr/lib/systemd/system/{name}"] = (text, 0o644)
    if board.name == "uefi-arm64":
        hook = f"#!/bin/sh\nexec /{_LIB}/boot-files"
        # The kernel's own hooks make the initramfs first (initramfs-tools sorts before this).
        found["etc/kernel/postinst.d/zz-funasr-image"] = (f'{hook} "$1"\n', 0o755)
        found["etc/initramfs/post-update.d/funasr-image"] = (f'{hook} "$1"\n', 0o755)
    if board.name == "rpi":
        # No cma=: it keeps a Pi 4 from starting, and a box without a desktop needs none.
        options = f'CMA=0\nROOTPART="LABEL={ROOT_LABEL}"\nCONSOLES="tty0 {board.console}"\n'
        found["etc/default/raspi-firmware"] = (options, 0o644)
    return found


def fstab(board: Board) -> str:
    """Root and boot partition by label; a box with a damaged boot partition starts all the same."""
    options = "noatime,errors=remount-ro"
    return (
        f"LABEL={ROOT_LABEL} / ext4 {options} 0 1\n"
        f"LABEL={BOOT_LABEL} {board.boot_mount} vfat umask=0077,nofail 0 2\n"
    )


def loader_files(board: Board) -> Mapping[str, str]:
    """systemd-boot's configuration on the UEFI system partition."""
    return {
        "loader/loader.conf": "default funasr.conf\ntimeout 0\nconsole-mode keep\neditor no\n",
        "loader/entries/funasr.conf": (
            "title FunASR agent\nlinux /funasr/linux\ninitrd /funasr/initrd\n"
            f"options {board.command_line()}\n"
        ),
    }


def raspberry_config(version: str) -> str:
    """config.txt: what the Raspberry Pi's firmware starts."""
    return (
        "# Made by the package raspi-firmware from the first kernel update on;\n"
        "# settings of your own belong in /etc/default/raspi-firmware-custom.\n"
        "arm_64bit=1\nenable_uart=1\nupstream_kernel=1\n"
        f"kernel=vmlinuz-{version}\ninitramfs initrd.img-{version}\n"
    )


def _device(name: str) -> str:
    """A file of the folder device/, which runs on the box."""
    return (Path(__file__).parent / "device" / name).read_text(encoding="utf-8")
