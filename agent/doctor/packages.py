"""The libraries: there, new enough, and importable together."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

from agent.doctor.box import Box
from agent.doctor.report import Check, failure, gathered, ok, warning

NAME = "packages"
OWN = "funasr-agent"
RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)
"""Distributions that all install the one module `onnxruntime`."""
IMPORT_LIMIT_S = 90.0
"""For all libraries together; the first import on an SD card is slow."""

_MODULES = {"pyyaml": "yaml"}
"""Distribution -> module, where the name does not tell."""
_SET_UP_AGAIN = "run ./scripts/run again, or install the package again"

_IMPORT_EACH = """
import importlib, json, sys
for name in sys.argv[1:] or json.load(sys.stdin):
    print(json.dumps([name, "?"]), flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        text = (str(error).strip().splitlines() or [""])[-1]
        print(json.dumps([name, f"{type(error).__name__}: {text}"]), flush=True)
    else:
        print(json.dumps([name, ""]), flush=True)
"""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution."""

    name: str
    """Normalised: lower case, `-` between words."""
    version: str
    requires: tuple[str, ...]


def installed(box: Box) -> dict[str, Distribution]:
    """Every distribution that is installed, by its normalised name."""
    if box.python_path is None:
        found = list(metadata.distributions())
    else:
        found = list(metadata.distributions(path=list(box.python_path)))
    result: dict[str, Distribution] = {}
    for item in found:
        name = normalised(item.metadata["Name"] or "")
        # The first on the path is the one that is imported.
        result.setdefault(name, Distribution(name, item.version, tuple(item.requires or ())))
    return result


def normalised(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def runtimes(distributions: Mapping[str, Distribution]) -> list[Distribution]:
    """The distributions of ONNX Runtime among those installed; more than one is a fault."""
    return [distributions[name] for name in RUNTIMES if name in distributions]


def check_packages(box: Box) -> list[Check]:
    """One line."""
    distributions = installed(box)
    own = distributions.get(OWN)
    if own is None:
        seen = f"{OWN} runs from its source without being installed: versions are not compared"
        return [warning(NAME, seen, "set it up with ./scripts/run or pip install -e .")]
    needed = [Requirement(text) for text in own.requires]
    needed = [item for item in needed if not item.marker or item.marker.evaluate({"extra": ""})]
    problems: list[Check] = []
    modules: list[str] = []
    for item in needed:
        found = _provider(item.name, distributions)
        if found is None:
            problems.append(failure(NAME, f"{item.name} is not installed", _SET_UP_AGAIN))
            continue
        modules.append(_module(item.name))
        if not item.specifier.contains(found.version, prereleases=True):
            seen = f"{found.name} is {found.version}, {item.specifier} is needed"
            problems.append(warning(NAME, seen, _SET_UP_AGAIN))
    problems += [
        failure(NAME, text, explain(text) or _SET_UP_AGAIN) for text in _imports(box, modules)
    ]
    seen = f"{OWN} {own.version} needs {len(needed)} libraries"
    if not problems:
        return [ok(NAME, f"{seen}, all are there and can be imported")]
    return [gathered(NAME, [seen], problems)]


def _provider(name: str, distributions: Mapping[str, Distribution]) -> Distribution | None:
    """What is installed for a requirement; any build of the runtime is one."""
    found = distributions.get(normalised(name))
    if found is None and normalised(name) == RUNTIMES[0]:
        return next(iter(runtimes(distributions)), None)
    return found


def _imports(box: Box, modules: Sequence[str]) -> list[str]:
    """What is wrong with the modules, imported one after the other in a process.

    A module that kills the process is named and the others are tried without it.
    """
    problems: list[str] = []
    left = list(modules)
    while left:
        outcome = box.python(_IMPORT_EACH, timeout_s=IMPORT_LIMIT_S, stdin=json.dumps(left))
        answers: dict[str, str] = {}
        for line in outcome.stdout.splitlines():
            if line.startswith("["):
                name, answer = json.loads(line)
                answers[name] = answer
        problems += [
            f"{n} can't be imported: {a}" for n, a in answers.items() if a not in ("", "?")
        ]
        stopped = next((name for name, answer in answers.items() if answer == "?"), None)
        if stopped is not None:
            problems.append(f"importing {stopped} {how_it_ended(outcome.code, outcome.timed_out)}")
        elif not set(left) <= set(answers):
            text = last_line(outcome.stderr) or "it said nothing"
            problems.append(f"an interpreter of its own can't be started: {text}")
            break
        left = [name for name in left if name not in answers]
    return problems


def how_it_ended(code: int | None, timed_out: bool) -> str:
    """In words: what a child process that did not do its work came to."""
    if timed_out:
        return "does not end"
    if code is not None and code < 0:
        try:
            return f"kills the process ({signal.Signals(-code).name})"
        except ValueError:
            return f"kills the process (signal {-code})"
    return f"ends the process (exit code {code})"


def last_line(text: str) -> str:
    """The last line that says something: where Python names its error."""
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "")


def _module(distribution: str) -> str:
    name = normalised(distribution)
    return _MODULES.get(name, name.replace("-", "_"))


def explain(text: str) -> str:
    """What to do about a failed import, by what it said; empty when that says nothing more."""
    missing = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", text)
    if missing:
        package = next((p for lib, p in _SYSTEM_PACKAGES.items() if lib in missing[1]), "")
        where = f": apt install {package}" if package else ""
        return f"the system's library {missing[1]} is missing; install it{where}"
    if "GLIBC" in text:
        return "the wheel is made for a newer system; upgrade the system, or use an older version"
    if "SIGILL" in text:
        return (
            "the wheel uses instructions that this processor lacks; install another version of it, "
            "on a Raspberry Pi the 64-bit system"
        )
    if "numpy" in text.lower() and re.search(r"multiarray|_ARRAY_API|dtype size|compiled", text):
        return "it was built for another generation of numpy; install both again together"
    return ""


_SYSTEM_PACKAGES = {
    "libgomp": "libgomp1",
    "libstdc++": "libstdc++6",
    "libsndfile": "libsndfile1",
    "libportaudio": "libportaudio2",
}
