"""The configuration of a device, made from the checkout's config.yaml so that none can drift."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

HOST = "127.0.0.1"
"""Until listeners have access control the agent refuses any other without `auth: open`."""

PATHS: Mapping[str, str] = MappingProxyType(
    {
        "state_dir": "/var/lib/funasr-agent",
        "run_dir": "/run/funasr-agent",
        "models.dir": "/usr/lib/funasr-agent/models",
    }
)
"""Key -> value on a device."""


@dataclass(frozen=True)
class Listener:
    """One entry of `listen`."""

    port: int
    tls: bool
    why: str
    """The comment behind it."""
    host: str = HOST


PACKAGE_LISTENERS = (
    Listener(8080, False, "the page and the API"),
    Listener(8443, True, "the same with TLS"),
    Listener(10095, True, "FunASR clients, wss"),
    Listener(10096, False, "FunASR clients, ws"),
)
_HEAD = """\
# funasr-agent on this device. Every key is here; a changed one stays at upgrades.
# `funasr-agent config check` names every problem, `config show` what is in force.
# After a change: systemctl reload funasr-agent; it names the keys that wait for a restart.
# The listeners serve this box only. There is no sign-in yet: `host: 0.0.0.0` together with
# `auth: open` serves everyone on the network.
"""


def device_config(
    text: str,
    listeners: Sequence[Listener] = PACKAGE_LISTENERS,
    values: Mapping[str, str] = PATHS,
) -> str:
    """The text of config.yaml with these listeners and values (written as YAML); everything
    else, the comments too, stays. Raises ValueError when a key is not in `text` just once."""
    entries = "".join(
        f"  - host: {item.host}\n"
        f"    port: {item.port:<20}# {item.why}\n"
        f"    tls: {str(item.tls).lower()}\n"
        for item in listeners
    )
    # Only comments at the beginning of the file speak of the checkout.
    body = re.sub(r"\A(#[^\n]*\n)+", "", text)
    body = _replace(r"^listen:\n(?:[ ]+[^\n]*\n)+", f"listen:\n{entries}", body, "listen")
    for key, value in values.items():
        body = _set(body, key.split("."), value)
    return _HEAD + body


def _set(text: str, keys: Sequence[str], value: str) -> str:
    """One scalar replaced; the comment behind it stays, in its column where that goes."""
    name = ".".join(keys)
    section, key = (keys[0], keys[1]) if len(keys) == 2 else ("", keys[0])
    indent = "  " if section else ""
    before = rf"^{section}:\n(?:[ ]+[^\n]*\n)*?" if section else ""
    pattern = re.compile(rf"({before or '^'}{indent}{key}: )([^#\n]*?)([ ]*)(#[^\n]*)?$", re.M)
    found = list(pattern.finditer(text))
    if len(found) != 1:
        raise ValueError(f"config.yaml has {name} {len(found)} times, it must be there once")
    match = found[0]
    comment = match[4] or ""
    width = len(match[2]) + len(match[3])
    new = f"{value:<{width}}" if comment else value
    if comment and not new.endswith(" "):
        new += "  "
    return text[: match.start()] + match[1] + new + comment + text[match.end() :]


def _replace(pattern: str, by: str, text: str, name: str) -> str:
    changed, count = re.subn(pattern, lambda _: by, text, flags=re.M)
    if count != 1:
        raise ValueError(f"config.yaml has {name} {count} times, it must be there once")
    return changed
