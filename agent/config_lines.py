"""Where in a YAML file a key is written."""

from __future__ import annotations

from pathlib import Path

import yaml


def line_of(file: Path, key: str) -> int | None:
    """Line, counted from 1, of a dotted key such as `commands.2.phrases.0`, or of the nearest
    thing above it that is written; None where the file has nothing of it."""
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    line = None
    for part in key.split("."):
        found = _below(node, part)
        if found is None:
            break
        line, node = found
    return line


def _below(node: yaml.Node | None, part: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        child = node.value[int(part)]
        return child.start_mark.line + 1, child
    if isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            if name.value == part:
                return name.start_mark.line + 1, child
    return None
