"""The process around the agent: signals, logging, systemd's notifications, limits."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import resource
import signal
from contextlib import suppress

from agent.app import Agent
from agent.config import Config
from agent.live_config import LiveConfig
from agent.ops.logs import set_up_logging
from agent.ops.reload import ReadConfig, Reloader
from agent.ops.supervisor import Supervisor
from agent.ops.systemd import Notifier, inherited_sockets, watchdog_period_s
from agent.web.listeners import openable

_log = logging.getLogger(__name__)


def run(config: Config, read: ReadConfig, *, tell_token: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. SIGHUP reads the configuration again by
    `read`. Raises ConfigError when a port is taken.

    `tell_token`: print the addresses for other machines with the token, for a person to open.
    """
    set_up_logging(config.logging)
    # A watchdog's SIGABRT leaves the place of every thread in the log.
    faulthandler.enable()
    _take_all_files()
    return asyncio.run(_serve(LiveConfig(config), read, tell_token))


async def _serve(live: LiveConfig, read: ReadConfig, tell_token: bool) -> int:
    notifier = Notifier.from_environment(os.environ)
    agent = Agent(live, inherited_sockets(os.environ, os.getpid()))
    supervisor = Supervisor(notifier, watchdog_period_s(os.environ, os.getpid()), agent.signs())
    reloader = Reloader(live, read, agent.apply, notifier, lambda: supervisor.is_ready)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    had_terminal = _has_terminal()

    def hang_up() -> None:
        if had_terminal and not _has_terminal():
            stop.set()  # its window was closed
        else:
            agent.spawn("reload", _reload(reloader))

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        agent.spawn("supervisor", supervisor.run())
        for address in map(openable, await agent.start()):
            _log.info("open %s", address)
            print(f"funasr-agent: open {address}", flush=True)
        for address in agent.addresses_with_token() if tell_token else ():
            print(f"funasr-agent: from other machines open {address}", flush=True)
        await stop.wait()
        _log.info("stopping: finals of open streams are flushed")
    finally:
        notifier.stopping()
        notifier.status("Stopping: open streams get their finals")
        await agent.stop()
        notifier.close()
    return 0


async def _reload(reloader: Reloader) -> None:
    await reloader.reload()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _take_all_files() -> None:
    """As many open files as the system allows: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
