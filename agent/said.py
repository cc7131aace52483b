"""Words for people that are also told by code and values, so that a page can say them in another
language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = str | int | float | Sequence[str]
"""What a text is filled with; a text may itself be `Said`."""

_ONE = (str, int, float)
LIST = "list"
"""Code of texts in a row."""


class Said(str):
    """An English text, and the same by code and values. Whatever takes a text takes it."""

    __slots__ = ("code", "values")
    code: str
    values: Mapping[str, Value]

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (str(self), self.code, dict(self.values))


def say(code: str, template: str, **values: Value) -> Said:
    """`template` with each `{name}` replaced by its value; several texts are parted by semicolons.

    The page has the text of `code` in other languages, with the same names.
    """
    shown = {name: v if isinstance(v, _ONE) else "; ".join(v) for name, v in values.items()}
    return _made(template.format(**shown), code, values)


def say_all(texts: Iterable[str], joint: str = "; ") -> Said:
    """Several texts as one."""
    items = list(texts)
    return _made(joint.join(items), LIST, {"items": items})


def by_code(text: str) -> dict[str, Any]:
    """JSON: {"text"}, and {"code", "values"} where the text has them; values likewise."""
    told: dict[str, Any] = {"text": str(text)}
    if isinstance(text, Said):
        told["code"] = text.code
        told["values"] = {name: _value(value) for name, value in text.values.items()}
    return told


def from_code(told: Mapping[str, Any]) -> str:
    """The text that `by_code` wrote. Raises KeyError, TypeError, AttributeError for other JSON."""
    text = str(told["text"])
    if "code" not in told:
        return text
    values = {str(name): _unvalue(value) for name, value in told["values"].items()}
    return _made(text, str(told["code"]), values)


def _made(text: str, code: str, values: Mapping[str, Value]) -> Said:
    made = Said(text)
    made.code, made.values = code, values
    return made


def _value(value: Value) -> Any:
    if isinstance(value, Said):
        return by_code(value)
    if isinstance(value, _ONE):
        return value
    return [_value(item) for item in value]


def _unvalue(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_code(value)
    return [_unvalue(item) for item in value] if isinstance(value, list) else value
