"""The models: which one would serve each role after all three levels of verification."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.config import Config
from agent.doctor.box import Box
from agent.doctor.packages import how_it_ended, last_line
from agent.doctor.report import Check, failure, ok, warning
from agent.errors import AgentError, ModelError

if TYPE_CHECKING:
    from agent.store.checkup import ModelCheckup

CHECK_LIMIT_S = 600.0
"""For all models: large ones are hashed, loaded and tried, one after the other."""
READERS = ("asr_online", "asr_offline")
_ADVICE = "funasr-agent models verify shows more; install the model again or take it off models.{}"
_CHECK = "from agent.doctor.verify_models import main; main()"
_ROWS, _ERROR = "rows ", "error "


CheckModels = Callable[[Config], "Sequence[ModelCheckup]"]
"""For each role its models in order, up to the one that would serve. Raises AgentError when the
store can't be opened."""


def check_in_child(box: Box) -> CheckModels:
    """Checks the models in a process of its own: a model may take its process with it."""

    def check(config: Config) -> list[ModelCheckup]:
        from agent.store.checkup import ModelCheckup

        order = json.dumps({"cwd": os.getcwd(), "config": config.model_dump(mode="json")})
        outcome = box.python(_CHECK, timeout_s=CHECK_LIMIT_S, stdin=order)
        for line in outcome.stdout.splitlines():
            if line.startswith(_ROWS):
                return [ModelCheckup(**item) for item in json.loads(line.removeprefix(_ROWS))]
            if line.startswith(_ERROR):
                raise ModelError(json.loads(line.removeprefix(_ERROR)))
        said = last_line(outcome.stderr)
        ended = how_it_ended(outcome.code, outcome.timed_out)
        raise ModelError(f"verifying the models {ended}" + (f": {said}" if said else ""))

    return check


def check_models(config: Config, find: Callable[[], Sequence[ModelCheckup]]) -> list[Check]:
    """One line a role that is configured. `find` gives the rows of a `CheckModels`."""
    try:
        rows = find()
    except AgentError as error:
        return [failure("models", error.message, "mend that; funasr-agent models list shows more")]
    serving = {row.role for row in rows if row.serves}
    reading = bool(serving & set(READERS))
    checks = []
    for role in ("vad", *READERS, "punctuation"):
        of_role = [row for row in rows if row.role == role]
        if not of_role and getattr(config.models, role) in ([], ["none"]):
            continue
        optional = role == "punctuation" or (role in READERS and reading)
        checks.append(_role(role, of_role, optional=optional))
    return checks


def _role(role: str, rows: Sequence[ModelCheckup], *, optional: bool) -> Check:
    name = f"model {role}"
    refused = [row for row in rows if not row.serves and row.message]
    why = "; ".join(f"{row.ref} is refused{_level(row)}: {_shown(row)}" for row in refused)
    advice = _ADVICE.format(role)
    server = next((row for row in rows if row.serves), None)
    if server is None:
        seen = why or "none of its models was found"
        if not optional:
            return failure(name, f"nothing serves: {seen}", advice)
        lost = "no punctuation" if role == "punctuation" else "the other recogniser is alone"
        return warning(name, f"{lost}: {seen}", advice)
    seen = _serving(server)
    if refused:
        return warning(name, f"{why}; {seen}", advice)
    if server.slow:
        times = server.real_time_factor / server.recorded if server.recorded else 0.0
        seen = f"{seen}, but takes {times:.1f} times as long as when it was installed"
        return warning(name, seen, "look for heat, another program at work, a worn disk")
    return ok(name, seen)


def _serving(row: ModelCheckup) -> str:
    how = f" ({', '.join(filter(None, [row.variant, row.provider]))})" if row.variant else ""
    unpinned = "" if row.pinned else ", unpinned: not on the list of known models"
    return f"{row.ref}{how} serves{unpinned}"


def _level(row: ModelCheckup) -> str:
    return f" at level {row.level}" if row.level else ""


def _shown(row: ModelCheckup) -> str:
    return str(row.message) if not row.code else f"{row.message} [{row.code}]"
