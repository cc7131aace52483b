"""The configuration's sections of spoken commands: their phrases, and what they set off."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from agent.config_section import Section
from agent.networks import LOCAL, is_in, parse_address

MOST_COMMANDS = 500
MOST_PHRASES = 100
"""Of one command, and forms of one value of a slot."""
LONGEST_PHRASE = 200
_WORDS = "a text of 1 to 200 characters"


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("put it in quotes: YAML reads yes, no, on and off as true and false")
    return value


def _said(value: Any) -> str:
    """A phrase, or one way of saying a value."""
    _no_bool(value)
    text = str(value) if isinstance(value, str | int | float) else ""
    if not text.strip() or len(text) > LONGEST_PHRASE:
        raise ValueError(f"write {_WORDS}")
    return text


def _slot(value: Any) -> Any:
    """`number`, `digits`, or value -> ways of saying it; a list's entries are their own values."""
    if value in ("number", "digits"):
        return value
    if isinstance(value, list):
        value = {_said(entry): [entry] for entry in value}
    if not isinstance(value, dict) or not value:
        raise ValueError(
            "write number, digits, a list [kitchen, hall], or values with the ways of saying them "
            "{hall: [hall, corridor]}"
        )
    forms = {}
    for name, said in value.items():
        listed = said if isinstance(said, list) else [said]
        if not 1 <= len(listed) <= MOST_PHRASES:
            raise ValueError(f"write 1 to {MOST_PHRASES} ways of saying {name}")
        forms[_said(name)] = [_said(form) for form in listed]
    return forms


Said = Annotated[str, BeforeValidator(_said)]
Slot = Annotated[Literal["number", "digits"] | dict[str, list[str]], BeforeValidator(_slot)]


class Command(Section):
    """A command that may be spoken."""

    name: Annotated[str, BeforeValidator(_no_bool)] = Field(
        pattern=r"^[\w.-]{1,64}$", description="what it is called in events and for hooks"
    )
    phrases: list[Said] = Field(
        min_length=1, max_length=MOST_PHRASES, description="ways of saying it, {slot} for a slot"
    )
    slots: dict[str, Slot] = Field(
        {}, description="what may be said there; {number} and {digits} are always there"
    )
    max_edits: int | None = Field(
        None, ge=0, le=8, description="characters that may be misheard; null: by the length"
    )


class CommandHook(Section):
    """What commands set off."""

    exec: list[str] | None = Field(
        None, min_length=1, description="program with its arguments; JSON on its standard input"
    )
    webhook: str | None = Field(
        None, description="URL on the local network that the JSON is posted to"
    )
    sources: list[Literal["microphone", "page", "realtime", "funasr", "file"]] = Field(
        ["microphone", "page", "realtime"], description="where commands must come from"
    )
    timeout_s: float = Field(10, gt=0, le=600, description="time that one delivery gets")
    concurrent: int = Field(1, ge=1, le=16, description="at a time; 1 keeps their order")
    queue: int = Field(32, ge=1, le=1000, description="that may wait; more are dropped")
    expire_s: float = Field(
        30, gt=0, le=3600, description="a command that waited longer is dropped"
    )
    retries: int = Field(3, ge=0, le=10, description="tries after a webhook that failed")

    @field_validator("exec")
    @classmethod
    def _program(cls, value: list[str] | None) -> list[str] | None:
        if value and not value[0].startswith("/"):
            raise ValueError("the program must be an absolute path; no shell looks for it")
        if value and any("\0" in part for part in value):
            raise ValueError("an argument holds a null character")
        return value

    @field_validator("webhook")
    @classmethod
    def _local(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)  # raises ValueError itself
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("write a URL such as http://192.168.1.5:8123/heard")
        address = parse_address(parts.hostname)
        if address is not None and not is_in(address, LOCAL):
            raise ValueError(f"{parts.hostname} is no address of a local network")
        return value
