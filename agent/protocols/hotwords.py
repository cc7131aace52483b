"""Hotwords in the forms that FunASR's clients send them."""

from __future__ import annotations

import json
from typing import Any

from agent.protocols.base import wrong

DEFAULT_WEIGHT = 20
MAX_HOTWORDS = 1000
_RIGHT = "a JSON object of weights, or phrases joined by commas or spaces"


def read_hotwords(value: object) -> tuple[tuple[str, int], ...]:
    """Pairs of phrase and weight.

    Taken are: a JSON object with whole or text weights (as a text or as it is), a list of
    phrases, phrases joined by commas (which may contain spaces), or by spaces.
    Raises ProtocolError.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict):
        pairs = [(phrase, _weight(value, weight)) for phrase, weight in value.items()]
    elif isinstance(value, list) and all(isinstance(phrase, str) for phrase in value):
        pairs = [(phrase, DEFAULT_WEIGHT) for phrase in value]
    else:
        raise wrong("hotwords", value, _RIGHT)
    kept = tuple((phrase.strip(), weight) for phrase, weight in pairs if phrase.strip())
    if len(kept) > MAX_HOTWORDS:
        raise wrong("hotwords", f"{len(kept)} phrases", f"at most {MAX_HOTWORDS} phrases")
    return kept


def _parsed(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise wrong("hotwords", text, _RIGHT) from None
    return text.split(",") if "," in text else text.split()


def _weight(source: object, weight: object) -> int:
    try:
        if isinstance(weight, bool):
            raise ValueError(weight)
        return int(float(weight))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise wrong("hotwords", source, "a JSON object whose weights are numbers") from None
