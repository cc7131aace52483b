"""Log output: text for people and the journal, ECS JSON lines for Filebeat. Every line of a session
carries its id; transcripts appear at DEBUG only."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

import ecs_logging

from agent.config import Logging
from agent.log_context import SESSION

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
JOURNAL_FORMAT = "%(name)s: %(message)s"
"""The journal keeps time and priority itself."""
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG_PRIORITY = 7
"""Priorities are syslog's (sd-daemon(3))."""


def set_up_logging(
    settings: Logging,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send the log to `stream` (standard error) in the configured form; replaces earlier
    handlers."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.addFilter(_add_session)
    handler.setFormatter(_formatter(settings, stream.isatty(), is_journal(stream, environ)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written to `stream` goes to systemd's journal."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def _formatter(settings: Logging, terminal: bool, journal: bool) -> logging.Formatter:
    as_text = settings.format == "text" or (settings.format == "auto" and (terminal or journal))
    made: logging.Formatter = ecs_logging.StdlibFormatter()
    if as_text:
        made = _Text(JOURNAL_FORMAT if journal else TEXT_FORMAT)
    return _Prioritised(made) if journal else made


def _add_session(record: logging.LogRecord) -> bool:
    """A filter that lets every record through and names its session where it has one."""
    if not hasattr(record, "session_id") and (session := SESSION.get()):
        record.session_id = session
    return True


class _Text(logging.Formatter):
    """A line of text, with the session behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        session = getattr(record, "session_id", "")
        text = super().formatMessage(record)
        return f"{text} (session {session})" if session else text


class _Prioritised(logging.Formatter):
    """Puts the priority, which the journal takes away again, in front of every line."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        levels = (number for level, number in _PRIORITIES if record.levelno >= level)
        prefix = f"<{next(levels, _DEBUG_PRIORITY)}>"
        return "\n".join(prefix + line for line in self._inner.format(record).splitlines())
