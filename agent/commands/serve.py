"""`funasr-agent serve`: the daemon."""

from __future__ import annotations

import argparse
from functools import partial

from agent.commands.common import config_from


def serve(args: argparse.Namespace) -> int:
    """Run until stopped; returns the exit code."""
    config = config_from(args)
    # A bad configuration is told without waiting for the daemon's imports.
    from agent.app import run

    return run(config, partial(config_from, args))
