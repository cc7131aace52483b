"""YAML of untrusted manifests: plain data, bounded size, no key stated twice."""

from __future__ import annotations

from typing import Any

import yaml

from agent.errors import ManifestError

MAX_MANIFEST_BYTES = 1 << 20
"""A real manifest has a few kilobytes; more is refused unparsed."""
_MAX_NUMBER = 64
"""Characters of a number: longer ones take long to compute and can't be shown."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"
"""Ten lines of it can make a mapping of a billion keys."""


def load_strict_yaml(data: bytes, where: str) -> dict[Any, Any]:
    """The mapping that `data` holds. Raises ManifestError for the file `where`."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"is larger than {MAX_MANIFEST_BYTES} bytes", file=where)
    try:
        tree = yaml.load(data, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        what = getattr(error, "problem", None) or "not readable text"
        raise ManifestError(f"is not valid YAML: {what}{line}", file=where) from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"is not valid YAML: {error}", file=where) from None
    except (LookupError, TypeError, AttributeError):
        # So PyYAML meets a value that is not of the type which its tag names, as `!!int ""`.
        raise ManifestError("is not valid YAML: a value does not fit its tag", file=where) from None
    if not isinstance(tree, dict):
        raise ManifestError("must be a mapping of keys to values", file=where)
    return tree


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that states one key twice: which of two hashes would count? And text and
    numbers that can't be written down again."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str):
            value.encode()
        if node.tag in _NUMBERS and len(node.value) > _MAX_NUMBER:
            raise yaml.constructor.ConstructorError(
                None, None, "a number is too long", node.start_mark
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.tag == _MERGE:
                    raise yaml.constructor.ConstructorError(
                        None, None, "merging with `<<` is not read", key.start_mark
                    )
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)
