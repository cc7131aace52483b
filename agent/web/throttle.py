"""Bounds how often an address may guess."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from agent.networks import Address

_MOST_ADDRESSES = 4096
_IPV6_PREFIX = 64
"""One customer has at least so much; an address inside it costs nothing."""


class Throttle:
    """A bucket of attempts for each address that refills with time."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        """`now`: seconds that never go back."""
        self._now = now
        self.allow(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> attempts left, and when that was so; the longest unused first."""

    def allow(self, per_minute: int) -> None:
        """Another bound; what addresses have used up stays so."""
        self._most = float(per_minute)
        self._per_s = per_minute / 60

    def wait_s(self, address: Address | None) -> int:
        """Whole seconds until the address may try again; 0: now."""
        left = self._left(_key(address))
        return 0 if left >= 1 else max(1, ceil((1 - left) / self._per_s))

    def failed(self, address: Address | None) -> None:
        """The address has guessed wrongly."""
        key = _key(address)
        self._buckets[key] = (max(0.0, self._left(key) - 1), self._now())
        self._buckets.move_to_end(key)
        while len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)

    def _left(self, key: str) -> float:
        left, since = self._buckets.get(key, (self._most, self._now()))
        return min(self._most, left + (self._now() - since) * self._per_s)


def _key(address: Address | None) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
