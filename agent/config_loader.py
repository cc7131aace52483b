"""Reads the configuration from its sources and reports every problem at once.

Sources, later ones win: defaults < file < environment (`FUNASR_AGENT__A__B=c`) < `--set a.b=c`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from agent.config import Config, Listener
from agent.config_commands import Command
from agent.config_lines import line_of
from agent.errors import ConfigError, ConfigProblem
from agent.voice_commands.check import command_problems

ENV_PREFIX = "FUNASR_AGENT__"
SYSTEM_CONFIG = Path("/etc/funasr-agent/config.yaml")


def find_config_file(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read: `--config`, $FUNASR_AGENT_CONFIG, ./config.yaml, /etc; None: defaults."""
    if explicit is not None:
        return explicit
    if environ.get("FUNASR_AGENT_CONFIG"):
        return Path(environ["FUNASR_AGENT_CONFIG"])
    for candidate in (cwd / "config.yaml", SYSTEM_CONFIG):
        if candidate.is_file():
            return candidate
    return None


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """Merge the sources and validate. Raises ConfigError with every problem at once."""
    problems: list[ConfigProblem] = []
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        _merge(tree, _read_file(file, problems), origin, str(file))
    for name, text in sorted((environ or os.environ).items()):
        if name.startswith(ENV_PREFIX):
            keys = name[len(ENV_PREFIX) :].lower().split("__")
            _override(tree, keys, text, origin, f"environment {name}", problems)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            problems.append(ConfigProblem(setting, "write it as KEY=VALUE", "--set"))
            continue
        _override(tree, key.split("."), text, origin, "--set", problems)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems.extend(_problem(e, origin) for e in error.errors())
        raise ConfigError(_with_lines(problems, file)) from None
    problems.extend(_contradictions(config, origin))
    if problems:
        raise ConfigError(_with_lines(problems, file))
    return config


def _read_file(file: Path, problems: list[ConfigProblem]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(ConfigProblem(str(file), f"can't be read: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(ConfigProblem(str(file), "is not UTF-8 text"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        what = getattr(error, "problem", None) or "not YAML"
        problems.append(ConfigProblem(str(file), f"is not valid YAML: {what}{line}"))
    except (ValueError, RecursionError) as error:  # an impossible date, nesting without end
        problems.append(ConfigProblem(str(file), f"is not valid YAML: {error}"))
    else:
        if data is None:
            return {}
        if isinstance(data, dict):
            return data
        problems.append(ConfigProblem(str(file), "must be a mapping of keys to values"))
    return {}


def _merge(
    tree: dict[str, Any], extra: dict[str, Any], origin: dict[str, str], source: str, at: str = ""
) -> None:
    for key, value in extra.items():
        path = f"{at}.{key}" if at else str(key)
        if value is None and key not in ("run_dir", "cert", "key", "mirror"):
            continue  # an empty section in the file means its defaults
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
            _merge(tree[key], value, origin, source, path)
            if not value:
                origin[path] = source
        else:
            tree[key] = value
            origin[path] = source


def _override(
    tree: dict[str, Any],
    keys: list[str],
    text: str,
    origin: dict[str, str],
    source: str,
    problems: list[ConfigProblem],
) -> None:
    path = ".".join(keys)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        problems.append(ConfigProblem(path, f"{text!r} is not a YAML value", source))
        return
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                problems.append(ConfigProblem(path, f"no entry {key} in the list", source))
                return
            node = node[int(key)]
            continue
        child = node.get(key)
        if not isinstance(child, dict | list):
            child = _default_at(keys[: depth + 1])
            node[key] = child
        node = child
    last = keys[-1]
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        problems.append(ConfigProblem(path, f"no entry {last} in the list", source))
        return
    origin[path] = source


def _default_at(keys: list[str]) -> Any:
    """A fresh copy of the default list at `keys`, so that one entry can be set; else a mapping."""
    node: Any = Config().model_dump()
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, list) else {}


def _problem(error: Any, origin: dict[str, str]) -> ConfigProblem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _names_beside(error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(known)}"
        message = f"unknown key; {hint}"
    else:
        shown = error.get("input")
        value = "" if isinstance(shown, dict | list) else f" (value: {shown!r})"
        message = error["msg"].removeprefix("Value error, ") + value
    return ConfigProblem(path or "config", message, _source_of(path, origin))


def _with_lines(problems: list[ConfigProblem], file: Path | None) -> list[ConfigProblem]:
    """Lists of commands grow long: what is wrong in them is told with its line."""
    told = []
    for problem in problems:
        in_file = file is not None and problem.source == str(file)
        line = line_of(file, problem.key) if file and in_file and _is_listed(problem) else None
        where = f"{problem.source}, line {line}" if line else problem.source
        told.append(replace(problem, source=where))
    return told


def _is_listed(problem: ConfigProblem) -> bool:
    return problem.key.startswith("commands.")


def _source_of(path: str, origin: dict[str, str]) -> str:
    while path:
        if path in origin:
            return origin[path]
        below = next((s for p, s in origin.items() if p.startswith(path + ".")), None)
        if below:
            return below
        path = path.rpartition(".")[0]
    return ""


def _names_beside(location: tuple[Any, ...]) -> list[str]:
    """Valid key names in the section that holds the last element of `location`."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif part in ("listen", "commands"):
            model = Listener if part == "listen" else Command
    return list(model.model_fields)


def _contradictions(config: Config, origin: dict[str, str]) -> list[ConfigProblem]:
    """What single values can't show."""
    problems = []
    taken: dict[tuple[str, int], int] = {}
    for i, listener in enumerate(config.listen):
        if listener.port and (listener.host, listener.port) in taken:
            key = f"listen.{i}.port"
            first = taken[listener.host, listener.port]
            problems.append(
                ConfigProblem(
                    key, f"{listener.port} is also listen.{first}.port", _source_of(key, origin)
                )
            )
        taken.setdefault((listener.host, listener.port), i)
    if not config.models.asr_online and not config.models.asr_offline:
        problems.append(
            ConfigProblem("models", "asr_online and asr_offline are both empty: nothing to read")
        )
    for key, message in command_problems(config.commands):
        problems.append(ConfigProblem(key, message, _source_of(key, origin)))
    return problems
