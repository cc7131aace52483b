"""Reads funasr-agent.txt on the boot partition and brings the box in line with it, at every boot.

Runs on the box with the system's Python, standard library only.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME = "funasr-agent.txt"
MAX_BYTES = 65536
ADMIN = "admin"
"""The account that the SSH keys open."""
STATE = "var/lib/funasr-agent"
KEYS = f"etc/funasr-image/ssh_keys/{ADMIN}"
READ_ONLY = "etc/funasr-image/read-only"
"""While it exists the next boot puts an overlay in memory over the root."""
LOWER = "run/funasr-overlay/lower"
"""Where the overlay keeps the real root."""
ISSUE = "run/funasr-image/settings.issue"
"""/etc/issue.d leads here: a box whose /etc/issue exists reads no other folder."""
WPA = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
WPA_UNIT = "wpa_supplicant@wlan0.service"
NETWORK_MANAGER = "etc/NetworkManager/system-connections"
"""Where this folder is, NetworkManager keeps the Wi-Fi (Jetson, Raspberry Pi OS)."""

_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

Run = Callable[[Sequence[str]], None]
"""Runs a command; OSError or CalledProcessError when it fails."""


@dataclass(frozen=True)
class Settings:
    """What the file asks for; None and () where it says nothing."""

    hostname: str | None = None
    wifi_ssid: str | None = None
    wifi_password: str | None = None
    wifi_country: str | None = None
    ssh_keys: tuple[str, ...] = ()
    token: str | None = None
    read_only: bool | None = None


@dataclass
class _Reading:
    values: dict[str, str] = field(default_factory=dict)
    ssh_keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)


def parse(data: bytes) -> tuple[Settings, list[str]]:
    """The settings that are sound, and a line of text on each that is not."""
    reading = _Reading()
    if len(data) > MAX_BYTES:
        return Settings(), [f"the file is larger than {MAX_BYTES} bytes; nothing of it was used"]
    for number, line in enumerate(_text(data).splitlines(), start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            _read_line(number, text, reading)
    values = reading.values
    if "wifi_ssid" not in values and "wifi_ssid" not in reading.bad:
        for key in ("wifi_password", "wifi_country"):
            if key in values:
                reading.problems.append(f"{key} has no effect without wifi_ssid")
    if "wifi_password" in reading.bad and values.pop("wifi_ssid", None) is not None:
        reading.problems.append("wifi_ssid was not used: its wifi_password is bad")
    read_only = values.get("read_only")
    settings = Settings(
        hostname=values.get("hostname"),
        wifi_ssid=values.get("wifi_ssid"),
        wifi_password=values.get("wifi_password"),
        wifi_country=values.get("wifi_country"),
        ssh_keys=tuple(reading.ssh_keys),
        token=values.get("token"),
        read_only=None if read_only is None else read_only == "yes",
    )
    return settings, reading.problems


def apply(settings: Settings, root: Path, run: Run) -> list[str]:
    """Bring the system below `root` in line; a line of text on each setting that failed."""
    problems = []
    for name, step in (
        ("hostname", _apply_hostname),
        ("wifi_ssid", _apply_wifi),
        ("ssh_key", _apply_keys),
        ("token", _apply_token),
        ("read_only", _apply_read_only),
    ):
        try:
            step(settings, root, run)
        except (OSError, subprocess.CalledProcessError) as error:
            problems.append(f"{name} could not be set: {error}")
    return problems


def wpa_text(settings: Settings) -> str:
    """wpa_supplicant's configuration; the name in hexadecimal, so that nothing needs quoting."""
    ssid = (settings.wifi_ssid or "").encode().hex()
    password = settings.wifi_password
    if password is None:
        secret = "    key_mgmt=NONE\n"
    else:
        # 64 digits are the key itself, anything else is the passphrase.
        psk = password if len(password) == 64 else f'"{password}"'
        secret = f"    key_mgmt=WPA-PSK WPA-PSK-SHA256\n    psk={psk}\n    ieee80211w=1\n"
    country = f"country={settings.wifi_country}\n" if settings.wifi_country else ""
    return f"ctrl_interface=/run/wpa_supplicant\n{country}network={{\n    ssid={ssid}\n{secret}}}\n"


def network_manager_text(settings: Settings) -> str:
    """NetworkManager's file; the name as numbers, so that nothing needs quoting."""
    ssid = "".join(f"{byte};" for byte in (settings.wifi_ssid or "").encode())
    text = f"[connection]\nid=funasr-agent\ntype=wifi\n\n[wifi]\nssid={ssid}\n"
    if settings.wifi_password is not None:
        psk = settings.wifi_password.replace("\\", "\\\\")
        text += f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={psk}\n"
    return text


def main(arguments: Sequence[str]) -> int:
    """`settings.py FILE`: apply; 0 even with bad values, which are told and keep nothing up."""
    root = Path("/")
    path = Path(arguments[0])
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        _tell(root, [f"can't be read: {error.strerror}"])
        return 0
    settings, problems = parse(data)
    problems += apply(settings, root, _run)
    _tell(root, problems)
    return 0


def _text(data: bytes) -> str:
    for encoding in ("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _read_line(number: int, text: str, reading: _Reading) -> None:
    key, equals, value = (part.strip() for part in text.partition("="))
    key = key.lower()
    where = f"line {number}: "
    if not equals:
        reading.problems.append(where + "no `=`; a setting is written `key = value`")
    elif key not in _CHECKS:
        near = difflib.get_close_matches(key, _CHECKS, n=1)
        advice = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(_CHECKS)}"
        reading.problems.append(where + f"{_shown(key)} is no setting" + advice)
    elif not value:
        reading.problems.append(where + f"{key} is empty; put a # before it to leave it out")
    elif key in reading.values:
        reading.problems.append(where + f"{key} is set a second time; the first is used")
    else:
        problem = _CHECKS[key](value)
        if problem:
            reading.bad.add(key)
            reading.problems.append(where + f"{key}: {problem}")
        elif key == "ssh_key":
            reading.ssh_keys.append(value)
        else:
            reading.values[key] = value.lower() if key in ("hostname", "read_only") else value


def _check_hostname(value: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", value):
        return f"{_shown(value)} is no host name; use letters, digits and hyphens, at most 63"
    return "localhost is every box's own name" if value.lower() == "localhost" else None


def _check_ssid(value: str) -> str | None:
    return "a network's name has at most 32 bytes" if len(value.encode()) > 32 else None


def _check_password(value: str) -> str | None:
    if re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        return None
    if not re.fullmatch(r"[ -~]{8,63}", value):
        return "a Wi-Fi password has 8 to 63 ASCII characters, or 64 hexadecimal digits"
    return None


def _check_country(value: str) -> str | None:
    if not re.fullmatch(r"[A-Z]{2}", value):
        return f"{_shown(value)} is no country; write two capital letters, as in DE or US"
    return None


def _check_key(value: str) -> str | None:
    kind, _, rest = value.partition(" ")
    if "PRIVATE KEY" in value:
        return "this is a private key; put the .pub file's line here, and make a new pair"
    if kind not in _KEY_TYPES:
        return "a public key begins with its type, as in `ssh-ed25519 AAAA...`"
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except binascii.Error:
        return "the key is damaged; copy the whole line of the .pub file"
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != kind.encode() or len(blob) <= 4 + length + 32:
        return "the key is cut off or of another type; copy the whole line of the .pub file"
    return None


def _check_token(value: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,128}", value):
        return "a token has 16 to 128 letters, digits and . _ ~ -"
    return None


def _check_yes(value: str) -> str | None:
    return None if value.lower() in ("yes", "no") else f"{_shown(value)} is neither yes nor no"


_CHECKS: dict[str, Callable[[str], str | None]] = {
    "hostname": _check_hostname,
    "wifi_ssid": _check_ssid,
    "wifi_password": _check_password,
    "wifi_country": _check_country,
    "ssh_key": _check_key,
    "token": _check_token,
    "read_only": _check_yes,
}


def _shown(value: str) -> str:
    """Short, and without what a terminal would obey."""
    plain = "".join(c if c.isprintable() and c != "\\" else "?" for c in value)
    return f"`{plain[:40]}{'...' if len(plain) > 40 else ''}`"


def _apply_hostname(settings: Settings, root: Path, run: Run) -> None:
    name = settings.hostname
    path = root / "etc/hostname"
    if name is None or (path.exists() and path.read_text(encoding="utf-8").strip() == name):
        return
    _write(path, f"{name}\n")
    _write(root / "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")
    # The agent makes its certificate for the box's name, and makes one where there is none.
    shutil.rmtree(root / STATE / "tls", ignore_errors=True)
    run(["hostname", name])


def _apply_wifi(settings: Settings, root: Path, run: Run) -> None:
    if settings.wifi_ssid is None:
        return
    folder = root / NETWORK_MANAGER
    if folder.is_dir():
        path = folder / "funasr-agent.nmconnection"
        if _write(path, network_manager_text(settings), 0o600):
            run(["systemctl", "try-restart", "--no-block", "NetworkManager.service"])
        return
    _write(root / WPA, wpa_text(settings), 0o600)
    run(["systemctl", "enable", WPA_UNIT])
    run(["systemctl", "start", "--no-block", WPA_UNIT])


def _apply_keys(settings: Settings, root: Path, run: Run) -> None:
    """The keys of the file and no others; those in ~/.ssh/authorized_keys are left alone."""
    if settings.ssh_keys:
        _write(root / KEYS, "".join(f"{key}\n" for key in settings.ssh_keys))
    else:
        (root / KEYS).unlink(missing_ok=True)


def _apply_token(settings: Settings, root: Path, run: Run) -> None:
    path = root / STATE / "token"
    if settings.token is None:
        return
    owner = (root / STATE).stat()
    if _write(path, f"{settings.token}\n", 0o600):
        os.chown(path, owner.st_uid, owner.st_gid)


def _apply_read_only(settings: Settings, root: Path, run: Run) -> None:
    if settings.read_only is None:
        return
    # The overlay forgets; what decides about the next boot is written below it.
    overlaid = (root / LOWER / "etc").is_dir()
    marker = (root / LOWER if overlaid else root) / READ_ONLY
    changed = marker.exists() != settings.read_only
    if settings.read_only:
        _write(marker, "")
    else:
        marker.unlink(missing_ok=True)
    if settings.read_only == overlaid:
        return
    if not changed:  # one restart was tried for it; a second would be the first of many
        raise OSError("the overlay is not as the file wants it; see the console's first lines")
    os.sync()
    run(["systemctl", "reboot", "--no-block"])


def _write(path: Path, text: str, mode: int = 0o644) -> bool:
    """Whole or not at all; whether anything changed."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        path.chmod(mode)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return True


def _tell(root: Path, problems: Sequence[str]) -> None:
    """On the console before the login and, by standard error, in the journal."""
    path = root / ISSUE
    for problem in problems:
        print(f"{FILE_NAME}: {problem}", file=sys.stderr)
    if problems:
        lines = "".join(f"  {problem}\n" for problem in problems)
        _write(path, f"{FILE_NAME} on the boot partition; the rest of it is in force:\n{lines}\n")
    else:
        path.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
