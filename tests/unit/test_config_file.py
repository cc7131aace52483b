"""config.yaml at the root says what the schema says, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import Config, Listener
from agent.config_loader import load_config
from agent.errors import ConfigError

FILE = Path(__file__).parents[2] / "config.yaml"
FROM_THE_INSTALLATION = {"state_dir", "models.dir"}
"""Their defaults depend on where the agent lies; the file leaves them null."""


def leaves(tree: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{at}{key}"
        if isinstance(value, dict):
            found.update(leaves(value, f"{path}."))
        else:
            found[path] = value
    return found


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return leaves(yaml.safe_load(FILE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return leaves(Config().model_dump(mode="json"))


def test_the_file_has_every_key_of_the_schema(
    written: dict[str, Any], defaults: dict[str, Any]
) -> None:
    assert set(defaults) - set(written) == set()


def test_the_file_has_no_key_that_the_schema_lacks(
    written: dict[str, Any], defaults: dict[str, Any]
) -> None:
    assert set(written) - set(defaults) == set()


def test_every_value_in_the_file_is_the_default(
    written: dict[str, Any], defaults: dict[str, Any]
) -> None:
    for key, value in written.items():
        assert value == (None if key in FROM_THE_INSTALLATION else defaults[key]), key


def test_a_listener_is_shown_with_every_key(written: dict[str, Any]) -> None:
    assert set(written["listen"][0]) == set(Listener.model_fields)


def test_the_file_loads_to_the_defaults() -> None:
    assert load_config(FILE, {"PATH": ""}) == Config()


def test_every_key_has_a_line_of_explanation() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        section = line.endswith(":")
        explained = lines[number - 1].lstrip().startswith("# ") if section else " # " in line
        assert explained, line


def test_the_lines_are_in_the_order_of_the_schema(
    written: dict[str, Any], defaults: dict[str, Any]
) -> None:
    assert list(written) == list(defaults)


def test_an_empty_unknown_section_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("strem: {}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(file, {})
    assert str(raised.value) == f"{file}: strem: unknown key; did you mean stream?"
