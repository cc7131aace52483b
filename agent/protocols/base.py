"""Reading fields of client messages: each wrong value is named with what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.errors import ProtocolError
from agent.types import MAX_RATE, MIN_RATE, SAMPLE_RATE

INVALID_DATA = 1007
"""WebSocket close code for a message whose content is wrong."""
MAX_CHUNK_UNITS = 100
"""Longest look-back, hop or look-ahead in units of 60 ms."""
MAX_TEXT = 2000
"""Longest name or language that is echoed or used."""


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object. Raises ProtocolError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("the message is not JSON", close_code=INVALID_DATA) from None
    if not isinstance(value, dict):
        raise wrong("message", value, "a JSON object")
    return value


def wrong(key: str, value: object, right: str) -> ProtocolError:
    """The error for a field with a wrong value."""
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:40] + "..."
    return ProtocolError(f"{key} is {shown}; it must be {right}", close_code=INVALID_DATA)


def read_text(fields: Mapping[str, Any], key: str, default: str) -> str:
    """A text field of bounded length."""
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > MAX_TEXT or _has_surrogate(value):
        raise wrong(key, value, f"a text of at most {MAX_TEXT} characters")
    return value


def read_bool(fields: Mapping[str, Any], key: str, default: bool) -> bool:
    """A boolean; 0 and 1, and their words, are taken too, since clients send them."""
    value = fields.get(key)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, int | str) and str(value).lower() in words:
        return words[str(value).lower()]
    raise wrong(key, value, "true or false")


def read_rate(fields: Mapping[str, Any], key: str) -> int:
    """A sampling rate in Hz; may be a float or digits in a text."""
    value = fields.get(key)
    if value is None:
        return SAMPLE_RATE
    try:
        rate = float(value) if not isinstance(value, bool) else 0.0
    except (TypeError, ValueError, OverflowError):
        rate = 0.0
    if not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        raise wrong(key, value, f"a whole number from {MIN_RATE} to {MAX_RATE} (Hz)")
    return int(rate)


def read_chunk_size(fields: Mapping[str, Any], key: str = "chunk_size") -> tuple[int, int, int]:
    """Three numbers, as a list or as a text like "5,10,5"."""
    value = fields.get(key)
    if value is None:
        return (5, 10, 5)
    parts: Any = value.split(",") if isinstance(value, str) else value
    right = f"three whole numbers from 0 to {MAX_CHUNK_UNITS}, the second at least 1"
    if not isinstance(parts, list) or len(parts) != 3 or any(isinstance(p, bool) for p in parts):
        raise wrong(key, value, right)
    try:
        back, hop, ahead = (int(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        raise wrong(key, value, right) from None
    if min(back, ahead) < 0 or hop < 1 or max(back, hop, ahead) > MAX_CHUNK_UNITS:
        raise wrong(key, value, right)
    return back, hop, ahead


def read_index(fields: Mapping[str, Any], key: str) -> int:
    """A count from 0."""
    value = fields.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(key, value, "a whole number from 0")
    return value


def _has_surrogate(text: str) -> bool:
    """JSON can spell half of a character, which no reply could carry back."""
    return any("\ud800" <= char <= "\udfff" for char in text)
