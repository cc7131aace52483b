"""`funasr-agent config show|check|schema`."""

from __future__ import annotations

import argparse
import json
import os
import re

import yaml

from agent.commands.common import FINE, config_file, config_from
from agent.config import json_schema
from agent.config_loader import ENV_PREFIX


def config(args: argparse.Namespace) -> int:
    """Run the action; problems leave as ConfigError."""
    if args.action == "schema":
        print(json.dumps(json_schema(), indent=2))
        return FINE
    effective = config_from(args)
    if args.action == "check":
        print(f"no problems ({_sources(args)})")
        return FINE
    print(f"# in force: {_sources(args)}")
    tree = effective.model_dump(mode="json")
    print(_masked(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)), end="")
    return FINE


def _sources(args: argparse.Namespace) -> str:
    """What was merged, in order."""
    file = config_file(args)
    variables = sorted(name for name in os.environ if name.startswith(ENV_PREFIX))
    settings = [f"--set {setting}" for setting in args.settings]
    sources = ["defaults", *([str(file)] if file else []), *variables, *settings]
    return _masked(" < ".join(sources))


def _masked(text: str) -> str:
    """Addresses without their passwords and tokens: what is shown may be sent to others."""
    text = re.sub(r"(://)[^/@\s]+@", r"\1***@", text)
    return re.sub(r"(?i)([?&][\w-]*(?:token|key|secret|password)=)[^&\s'\"]+", r"\1***", text)
