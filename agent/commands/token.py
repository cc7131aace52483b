"""`funasr-agent token show|rotate`: the access token of this box."""

from __future__ import annotations

import argparse

from agent.commands.common import FINE, config_from
from agent.commands.daemon import running_daemon
from agent.config import Config
from agent.errors import AgentError
from agent.store.lock import StoreLock
from agent.web.token import new_token, read_token, write_token

_PATH = "/api/v1/token"


def token(args: argparse.Namespace) -> int:
    """Run the action; what goes wrong leaves as AgentError."""
    config = config_from(args)
    print(_rotate(config) if args.action == "rotate" else _show(config))
    return FINE


def _show(config: Config) -> str:
    daemon = running_daemon(config)
    if daemon is not None:
        return str(daemon.get(_PATH)["token"])
    found = read_token(config.state_dir)
    if found is None:
        raise AgentError(
            f"{config.state_dir}: there is no token yet; the agent makes it at its first start, "
            "or: funasr-agent token rotate"
        )
    return found


def _rotate(config: Config) -> str:
    daemon = running_daemon(config)
    if daemon is not None:
        return str(daemon.post(_PATH)["token"])
    with StoreLock(config.state_dir):
        made = new_token()
        write_token(config.state_dir, made)
        return made
