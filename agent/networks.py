"""Networks as the configuration names them: `off`, `private` or a list."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Private and link-local networks."""
LOCAL = (*PRIVATE, ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"""The same, and this machine."""


def parse_networks(value: Any) -> Any:
    """`value` as the schema wants it. Raises ValueError naming an entry that is no network."""
    if value is False:  # YAML reads a bare `off` so
        return "off"
    if isinstance(value, str) and value not in ("off", "private"):
        value = [part for part in value.replace(",", " ").split() if part]
    if isinstance(value, list):
        for entry in value:
            try:
                ipaddress.ip_network(str(entry), strict=False)
            except ValueError:
                raise ValueError(
                    f"{entry!r} is no network; write off, private, or networks such as "
                    "192.168.1.0/24"
                ) from None
        return [str(entry) for entry in value]
    return value


Networks = Annotated[Literal["off", "private"] | list[str], BeforeValidator(parse_networks)]
"""A key of the configuration: `off`, `private`, or networks such as 192.168.1.0/24."""


def networks_of(value: str | list[str]) -> tuple[Network, ...]:
    """What a `Networks` key stands for."""
    if isinstance(value, str):
        return PRIVATE if value == "private" else ()
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in value)


def parse_address(text: str | None) -> Address | None:
    """An address without its zone, IPv4 in IPv6 unwrapped; None when it is none."""
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_in(address: Address | None, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks."""
    return address is not None and any(address in network for network in networks)
