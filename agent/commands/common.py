"""What the commands share: exit codes, the configuration arguments, messages."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from agent.config import Config
from agent.config_loader import find_config_file, load_config

FINE = 0
FAILED = 1
USAGE = 2
TEMPORARY = 75
"""Worth a retry (sysexits' EX_TEMPFAIL)."""
BAD_CONFIG = 78
"""sysexits' EX_CONFIG."""
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""

PROGRAM = "funasr-agent"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--set KEY=VALUE`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (else $FUNASR_AGENT_CONFIG, ./config.yaml, "
        "/etc/funasr-agent/config.yaml)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override one key, for example models.dir=/srv/models; may be repeated",
    )


def config_file(args: argparse.Namespace) -> Path | None:
    """The file that the arguments, the environment or the places of habit name."""
    return find_config_file(args.config, os.environ, Path.cwd())


def config_from(args: argparse.Namespace) -> Config:
    """The effective configuration. Raises ConfigError."""
    return load_config(config_file(args), os.environ, args.settings)


def complain(message: str) -> None:
    """One message on stderr, under the program's name."""
    print(f"{PROGRAM}: {readable(message)}", file=sys.stderr)


def readable(text: str) -> str:
    """`text` with bytes of undecodable file names replaced, so that it can be printed."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
