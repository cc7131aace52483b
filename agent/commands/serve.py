"""`funasr-agent serve`: the daemon."""

from __future__ import annotations

import argparse
from functools import partial

from agent.commands.common import config_from

LAN = "listen=[{host: 0.0.0.0, port: 8080}, {host: 0.0.0.0, port: 8443, tls: true}]"
"""`--lan`; what `--set` says comes after it."""


def serve(args: argparse.Namespace) -> int:
    """Run until stopped; returns the exit code."""
    if args.lan:
        args.settings = [LAN, *args.settings]
    config = config_from(args)
    # A bad configuration is told without waiting for the daemon's imports.
    from agent.daemon import run

    return run(config, partial(config_from, args), tell_token=args.lan)
