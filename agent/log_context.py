"""Which session a log line belongs to: set once in a session's task, found in every line of it."""

from __future__ import annotations

from contextvars import ContextVar

SESSION: ContextVar[str] = ContextVar("session", default="")
"""Id of the session that the current task, or job of a lane, works for; empty: for none."""
