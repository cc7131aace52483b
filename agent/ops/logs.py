"""Log output: text for people, ECS JSON lines for Filebeat. Transcripts appear at DEBUG only."""

from __future__ import annotations

import logging
import sys

import ecs_logging

from agent.config import Logging

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up_logging(settings: Logging) -> None:
    """Send the log to standard error in the configured form; replaces earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(
        logging.Formatter(TEXT_FORMAT) if as_text else ecs_logging.StdlibFormatter()
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
