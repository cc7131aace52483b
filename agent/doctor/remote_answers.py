"""What the answers of another box mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.doctor.report import Check, failure, ok, warning

MAX_SHOWN = 300
"""Characters of another box's words that are shown."""


def judge_live(status: int, body: str) -> Check:
    """The line of /livez."""
    if status == 200:
        return ok("livez", "the agent lives")
    if status == 503:
        return failure("livez", _text(body), "restart the agent there")
    advice = "use the address that the box shows: another program answers at this one"
    return failure("livez", f"/livez answers {status}: not a funasr-agent", advice)


def judge_ready(status: int, body: str) -> Check:
    """The line of /readyz."""
    if status == 200:
        return ok("readyz", "a canary was decoded recently")
    advice = "wait while it starts; then the line health says why"
    return failure("readyz", f"it can't transcribe now: {_text(body)}", advice)


def judge_health(status: int, body: str, *, has_token: bool) -> Check:
    """The line of /health. `has_token`: one was sent."""
    if status in (401, 403):
        advice = "the token is wrong" if has_token else "add --token (funasr-agent token show)"
        return warning("health", f"/health answers {status}: it needs the token", advice)
    fields = read_fields(body)
    word = str(fields.get("status", ""))[:MAX_SHOWN]
    if not word:
        seen = f"/health answers {status} without a report"
        return warning("health", seen, "is it an older agent, or another program?")
    checks = fields.get("checks")
    bad = [
        f"{item.get('name')}: {_text(str(item.get('reason')))}"
        for item in (checks if isinstance(checks, list) else [])
        if isinstance(item, dict) and item.get("status") != "ok"
    ]
    seen = "; ".join([word, *bad])
    if word == "ok":
        return ok("health", seen)
    advice = "see the box's page or its log for more: journalctl -u funasr-agent"
    return (failure if word == "failing" else warning)("health", seen, advice)


def read_fields(text: str | bytes) -> Mapping[str, Any]:
    """A JSON object; empty when it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def readable(text: str) -> str:
    """The head of what another box said."""
    return text.strip()[:MAX_SHOWN]


def _text(body: str) -> str:
    return readable(body) or "no reason given"
