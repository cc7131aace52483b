"""Reads a Dockerfile: stages of instructions, with the arguments put in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One `FROM` and what follows it."""

    image: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and the rest of its line, continued lines joined."""

    def last(self, name: str) -> str:
        """The rest of the last instruction of that name; empty without one."""
        return next((rest for key, rest in reversed(self.instructions) if key == name), "")


def read_dockerfile(path: Path, arguments: Mapping[str, str]) -> list[Stage]:
    """The stages of a file. `arguments` are those of `--build-arg`."""
    stages: list[Stage] = []
    known = dict(arguments)
    for name, rest in _lines(path.read_text(encoding="utf-8")):
        if name == "FROM":
            image, _, stage = expand(rest, known).partition(" AS ")
            stages.append(Stage(image.strip(), stage.strip()))
        elif stages:
            stages[-1].instructions.append((name, rest))
        elif name == "ARG":
            key, _, default = rest.partition("=")
            known.setdefault(key, default)
        else:
            raise ValueError(f"{path}: {name} before the first FROM")
    return stages


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced; a name without a value becomes empty."""
    return re.sub(r"\$(?:{(\w+)}|(\w+))", lambda m: values.get(m[1] or m[2], ""), text)


def command_of(rest: str, shell: list[str]) -> list[str]:
    """A command in either form: a JSON list, or a line for the shell."""
    return list(json.loads(rest)) if rest.startswith("[") else [*shell, rest]


def pairs_of(rest: str) -> dict[str, str]:
    """`A=1 B="2 3"` of ENV."""
    return dict(word.split("=", 1) for word in shlex.split(rest))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(kept))
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()
