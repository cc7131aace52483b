"""G.711: eight bits a sample to sixteen, by table (ITU-T G.711, sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.types import Int16

RATE = 8000
"""Hz; G.711 has no other."""
_ULAW_BIAS = 0x84


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + _ULAW_BIAS << ((code & 0x70) >> 4)) - _ULAW_BIAS
    return -size if code & 0x80 else size


def _alaw(code: int) -> int:
    code ^= 0x55
    exponent, size = (code & 0x70) >> 4, ((code & 0x0F) << 4) + 8
    if exponent:
        size = size + 0x100 << exponent - 1
    return size if code & 0x80 else -size


def _table(expand: Callable[[int], int]) -> Int16:
    return np.array([expand(code) for code in range(256)], np.int16)


ULAW = _table(_ulaw)
"""Sample of each code of mu-law, [256]."""
ALAW = _table(_alaw)
"""Sample of each code of A-law, [256]."""
