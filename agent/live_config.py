"""The configuration in force: one owner, so that a reload reaches everybody at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.config import Config
from agent.config_section import Section

LIVE = (
    "auth",
    "command_hook",
    "commands",
    "funasr",
    "health",
    "inference.job_limit_s",
    "listen",
    "logging",
    "microphone",
    "models.mirror",
    "recognition",
    "shutdown",
    "stream",
    "tls",
    "uploads.max_duration_s",
    "uploads.max_mb",
)
"""Keys and sections that a reload changes. Any other key needs a restart."""


@dataclass(frozen=True)
class ConfigChange:
    """What a configuration that was read again means for the running agent."""

    config: Config
    """What is in force from now on: the new value of every live key, the old one of the others."""
    live: tuple[str, ...]
    """Keys whose new values take effect."""
    restart: tuple[str, ...]
    """Keys whose new values wait for a restart."""


class LiveConfig:
    """Holder of the configuration. Used on the event loop."""

    def __init__(self, config: Config) -> None:
        self._current = config
        self._restart: tuple[str, ...] = ()
        self._refusal = ""

    @property
    def current(self) -> Config:
        """The configuration in force."""
        return self._current

    @property
    def restart(self) -> tuple[str, ...]:
        """Keys that were changed in the sources and wait for a restart."""
        return self._restart

    @property
    def refusal(self) -> str:
        """Why the last reload was refused; empty after one that was taken."""
        return self._refusal

    def plan(self, new: Config) -> ConfigChange:
        """What taking `new` would change; changes nothing."""
        tree = self._current.model_dump()
        before, after = dict(_leaves(self._current)), dict(_leaves(new))
        changed = [key for key in after if after[key] != before[key]]
        live = tuple(key for key in changed if _is_live(key))
        for key in live:
            _set(tree, key, after[key])
        restart = tuple(key for key in changed if key not in live)
        return ConfigChange(Config.model_validate(tree), live, restart)

    def take(self, change: ConfigChange) -> None:
        """From now on the change is in force."""
        self._current, self._restart, self._refusal = change.config, change.restart, ""

    def refuse(self, reason: str) -> None:
        """What was read can't be used; the old configuration stays."""
        self._refusal = reason


def _is_live(key: str) -> bool:
    return any(key == live or key.startswith(live + ".") for live in LIVE)


def _leaves(section: Section, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value; lists and mappings are values."""
    for name, value in section:
        if isinstance(value, Section):
            yield from _leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree[section]
    tree[name] = value
