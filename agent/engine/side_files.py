"""The files beside a graph: config.yaml, tokens.json, am.mvn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from agent.engine.base import ModelFiles
from agent.engine.frontend import Frontend, FrontendConfig, parse_cmvn
from agent.errors import ManifestError

_MAX_DEPTH = 64
"""Nesting of config.yaml; libyaml's loader would take a hostile one to the end of the stack."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Old punctuation models list 270000 tokens there: a minute for the loader in Python."""


def read_config(files: ModelFiles) -> dict[str, Any]:
    """config.yaml of the model. Raises ManifestError when it is no mapping."""
    data = files.read("config.yaml")
    try:
        _refuse_deep(data)
        config = yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"is not YAML: {error}", file="config.yaml") from None
    if not isinstance(config, dict):
        raise ManifestError("is not a mapping", file="config.yaml")
    return config


def _refuse_deep(data: bytes) -> None:
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise ManifestError(f"is nested deeper than {_MAX_DEPTH} levels", file="config.yaml")


def section(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section of config.yaml; empty when it is absent. Raises ManifestError when malformed."""
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ManifestError(f"{key} is not a mapping", file="config.yaml")
    return value


def read_frontend(files: ModelFiles, conf: Mapping[str, Any]) -> Frontend:
    """The frontend of `frontend_conf` and am.mvn."""
    return Frontend(FrontendConfig.from_config(conf), parse_cmvn(files.read("am.mvn")))


def read_tokens(files: ModelFiles) -> tuple[str, ...]:
    """tokens.json: one text for each id. Raises ManifestError when it is no list of texts."""
    try:
        tokens = json.loads(files.read("tokens.json"))
    except ValueError as error:
        raise ManifestError(f"is not JSON: {error}", file="tokens.json") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ManifestError("is not a list of texts", file="tokens.json")
    return tuple(tokens)
