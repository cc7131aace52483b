"""ONNX Runtime: imported in a process of its own, alone in its place, silent about this box."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.doctor.box import TELEMETRY_SWITCHES, Box, Outcome
from agent.doctor.packages import explain, how_it_ended, last_line
from agent.doctor.report import Check, failure, ok, warning
from agent.doctor.running import Once

NAME = "onnxruntime"
TELEMETRY = "telemetry"
IMPORT_LIMIT_S = 60.0
_SWITCH = TELEMETRY_SWITCHES[0]
_ANSWER = "answer "
_PACKAGES = "packages "

_IMPORT = f"""
import json
try:
    from agent.engine.placement import package_problem
except ImportError:
    pass
else:
    print("{_PACKAGES}" + package_problem(), flush=True)
import onnxruntime
found = {{
    "version": onnxruntime.__version__,
    "providers": onnxruntime.get_available_providers(),
}}
print("{_ANSWER}" + json.dumps(found))
"""

_WATCH = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("{_ANSWER}" + os.environ.get("{_SWITCH}", "unset"), flush=True)
            sys.meta_path.remove(self)
        return None
sys.meta_path.insert(0, Watch())
import agent.engine.ort
"""


@dataclass(frozen=True)
class RuntimeFacts:
    """What importing the runtime came to."""

    version: str = ""
    """Empty when it can't be imported."""
    providers: tuple[str, ...] = ()
    """That this build lists; it may still fail to run them."""
    problem: str = ""
    """Why it can't be imported; empty when it can."""
    advice: str = ""
    packages: str = ""
    """What is wrong with the packages that provide it; empty: nothing."""


def find_runtime(box: Box) -> RuntimeFacts:
    """Import the runtime in a child process."""
    outcome = box.python(_IMPORT, timeout_s=IMPORT_LIMIT_S)
    packages = _answer(outcome, _PACKAGES) or ""
    answer = _answer(outcome)
    if answer is not None:
        found = json.loads(answer)
        providers = tuple(map(str, found["providers"]))
        return RuntimeFacts(str(found["version"]), providers, packages=packages)
    said = last_line(outcome.stderr)
    if outcome.code is None or outcome.code < 0 or not said:
        ended = how_it_ended(outcome.code, outcome.timed_out)
        problem = f"importing it {ended}" + (f": {said}" if said else "")
    else:
        problem = f"it can't be imported: {said}"
    advice = explain(f"{problem} {outcome.stderr}") or "install onnxruntime again"
    return RuntimeFacts(problem=problem, advice=advice, packages=packages)


def check_runtime(runtime: Once[RuntimeFacts]) -> list[Check]:
    """One line."""
    facts = runtime.get()
    seen = facts.problem or f"{facts.version} with {', '.join(facts.providers) or 'no provider'}"
    advice = [facts.advice] if facts.problem else []
    if facts.packages:
        seen = f"{seen}; {facts.packages}"
        advice.append("pip uninstall all of them, then install the one that is wanted")
    return [failure(NAME, seen, "; ".join(advice))] if advice else [ok(NAME, seen)]


def check_telemetry(box: Box) -> list[Check]:
    """One line: the switch as it stands at the moment when the runtime is imported."""
    outcome = box.python(_WATCH, timeout_s=IMPORT_LIMIT_S, drop=TELEMETRY_SWITCHES)
    answer = _answer(outcome)
    if answer == "1":
        return [ok(TELEMETRY, f"off: {_SWITCH}=1 before the runtime is imported")]
    if answer is None:
        said = last_line(outcome.stderr) or "it said nothing"
        seen = f"not known: the engine can't be imported: {said}"
        return [warning(TELEMETRY, seen, "mend what the lines above say, then look again")]
    advice = "install the package again: its engine sets the switch before it imports the runtime"
    return [failure(TELEMETRY, f"{_SWITCH} is {answer} when the runtime is imported", advice)]


def _answer(outcome: Outcome, mark: str = _ANSWER) -> str | None:
    for line in outcome.stdout.splitlines():
        if line.startswith(mark):
            return line.removeprefix(mark)
    return None
