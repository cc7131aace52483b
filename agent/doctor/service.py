"""The systemd service, on boxes where systemd runs."""

from __future__ import annotations

from agent.doctor.box import Box
from agent.doctor.packages import last_line
from agent.doctor.report import Check, failure, ok, warning

NAME = "service"
UNIT = "funasr-agent.service"
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result")
_COMMAND_LIMIT_S = 10.0
_LOG = f"journalctl -u {UNIT} -e shows why"


def check_service(box: Box) -> list[Check]:
    """One line; none where systemd is not the first process."""
    if not box.exists("run/systemd/system") or box.read("proc/1/comm") != "systemd":
        return []
    command = ["systemctl", "show", UNIT, *(f"--property={name}" for name in _PROPERTIES)]
    outcome = box.run(command, timeout_s=_COMMAND_LIMIT_S)
    found = dict(line.partition("=")[::2] for line in outcome.stdout.splitlines())
    if outcome.code != 0 or "LoadState" not in found:
        said = last_line(outcome.stderr) or "no answer"
        return [warning(NAME, f"systemd does not tell: {said}", "systemctl status")]
    if found["LoadState"] == "not-found":
        return [ok(NAME, f"{UNIT} is not installed; the agent is started by hand")]
    state = f"{found.get('ActiveState', '')} ({found.get('SubState', '')})"
    restarts = int(found.get("NRestarts") or 0)
    if found["LoadState"] != "loaded":
        advice = f"systemd-analyze verify {UNIT}"
        return [failure(NAME, f"{UNIT} can't be loaded: {found['LoadState']}", advice)]
    if found.get("ActiveState") == "failed":
        seen = f"failed: {found.get('Result', '')}, {restarts} restarts"
        return [failure(NAME, seen, _LOG)]
    if restarts:
        return [warning(NAME, f"{state}, restarted {restarts} times by itself", _LOG)]
    if found.get("ActiveState") in ("inactive", "deactivating"):
        return [warning(NAME, state, f"sudo systemctl enable --now {UNIT}")]
    if found.get("UnitFileState") == "disabled":
        advice = f"sudo systemctl enable {UNIT}"
        return [warning(NAME, f"{state}, but not started at the next boot", advice)]
    return [ok(NAME, state)]
