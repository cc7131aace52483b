"""The failure of a hook."""

from __future__ import annotations


class HookFailed(Exception):
    """A delivery failed; the message says why."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        """`again`: another try may succeed."""
        super().__init__(message)
        self.again = again
