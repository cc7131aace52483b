"""The four roles that a model can serve in."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["vad", "asr_online", "asr_offline", "punctuation"]
ROLES: tuple[Role, ...] = get_args(Role)
NO_MODEL = "none"
"""Ends the list of the punctuation role: recognised text stays without marks."""
