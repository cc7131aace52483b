"""The files beside a graph: config.yaml, tokens.json, am.mvn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from agent.engine.base import ModelFiles
from agent.engine.frontend import Frontend, FrontendConfig, parse_cmvn
from agent.errors import ManifestError

MAX_CONFIG_DEPTH = 64
JIEBA_DICTIONARY = "jieba_usr_dict"
NEEDS_JIEBA = (
    "this model splits Chinese by a jieba dictionary, which the agent has not; use the "
    "CT-Transformer with 272727 words"
)


def parse_yaml(data: bytes, *, as_text: bool = False) -> Any:
    """A YAML document by libyaml where it is there: old punctuation models list 270000 tokens,
    which takes the loader in Python a minute. `as_text`: every scalar stays a string.

    Raises yaml.YAMLError, and ValueError for hostile nesting, of which some loaders die.
    """
    plain = yaml.BaseLoader if as_text else yaml.SafeLoader
    loader: Any = getattr(yaml, f"C{plain.__name__}", plain)
    depth = 0
    for event in yaml.parse(data, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_CONFIG_DEPTH} levels")
    return yaml.load(data, Loader=loader)


def read_config(files: ModelFiles) -> dict[str, Any]:
    """config.yaml of the model. Raises ManifestError when it is no mapping."""
    try:
        config = parse_yaml(files.read("config.yaml"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"is not YAML: {error}", file="config.yaml") from None
    if not isinstance(config, dict):
        raise ManifestError("is not a mapping", file="config.yaml")
    return config


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
