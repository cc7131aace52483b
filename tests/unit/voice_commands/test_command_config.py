"""Commands in config.yaml: every mistake is told with its key, its line and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config
from agent.config_loader import load_config
from agent.errors import ConfigError

GOOD = """\
commands:
  - name: light_on
    phrases: ["打开{room}的灯", "turn on the {room} light"]
    slots: {room: {living: [客厅, living room], bed: [卧室, bedroom]}}
  - name: degrees
    phrases: ["{value}度"]
    slots: {value: number}
    max_edits: 0
command_hook:
  exec: [/usr/local/bin/heard, --json]
"""


def read(folder: Path, text: str) -> Config:
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, {"PATH": ""})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(folder, text)
    return [str(p).removeprefix(f"{folder}/c.yaml") for p in raised.value.problems]


def test_commands_are_read_and_survive_a_round_trip(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert [c.name for c in config.commands] == ["light_on", "degrees"]
    assert config.commands[0].slots["room"] == {
        "living": ["客厅", "living room"],
        "bed": ["卧室", "bedroom"],
    }
    assert Config.model_validate(config.model_dump()) == config


def test_a_list_of_values_stands_for_itself(tmp_path: Path) -> None:
    text = "commands: [{name: a, phrases: ['到{n}楼'], slots: {n: [甲, 3]}}]"
    assert read(tmp_path, text).commands[0].slots == {"n": {"甲": ["甲"], "3": ["3"]}}


def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
commands:
  - name: a
    phrases: ["打开灯", "打开{rom}的灯"]
    slots: {room: [客厅]}
  - name: a
    phrases:
      - "请打开灯。"
      - "the"
      - "{number}{digits}"
      - "打开{灯"
      - "{x} {x}"
    slots: {x: number}
"""
    assert problems(tmp_path, text) == [
        ", line 5: commands.1.name: a is also the name of commands.0",
        ", line 4: commands.0.slots.room: no phrase has the slot {room}",
        ", line 3: commands.0.phrases.1: '打开{rom}的灯' has the unknown slot {rom}; known are "
        "digits, number, room",
        ", line 8: commands.1.phrases.1: there is no word in it that counts",
        ", line 9: commands.1.phrases.2: a slot for numbers stands beside another number; put a "
        "word between",
        ", line 10: commands.1.phrases.3: '打开{灯' has a brace without its other one",
        ", line 11: commands.1.phrases.4: '{x} {x}' has the slot {x} twice; give each its own name",
    ]


def test_a_phrase_that_two_commands_share_is_told_with_both(tmp_path: Path) -> None:
    text = """\
commands:
  - {name: light_on, phrases: ["打开{room}的灯"], slots: {room: [客厅, 卧室]}}
  - name: living
    phrases: ["请打开客厅的灯吧"]
"""
    assert problems(tmp_path, text) == [
        ", line 4: commands.1.phrases.0: '请打开客厅的灯吧' is also said for light_on "
        "(commands.0.phrases.0: '打开{room}的灯')"
    ]


def test_two_values_of_a_slot_that_sound_the_same_are_told(tmp_path: Path) -> None:
    text = "commands: [{name: a, phrases: ['开{n}灯'], slots: {n: {x: 一号, y: 1号}}}]"
    (said,) = problems(tmp_path, text)
    assert "'开{n}灯' means both n=x and n=y" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("commands: [{name: a, phrases: []}]", "commands.0.phrases: List should have at least 1"),
        ("commands: [{name: a, phrases: ['']}]", "commands.0.phrases.0: write a text of 1 to 200"),
        ("commands: [{name: a, phrases: [yes]}]", "commands.0.phrases.0: put it in quotes"),
        ("commands: [{name: on, phrases: [x]}]", "commands.0.name: put it in quotes"),
        ("commands: [{name: a b, phrases: [x]}]", "commands.0.name: String should match pattern"),
        ("commands: [{name: a, phrazes: [x]}]", "commands.0.phrazes: unknown key; did you mean"),
        (
            "commands: [{name: a, phrases: ['{n}'], slots: {n: word}}]",
            "commands.0.slots.n: write nu",
        ),
        (
            "commands: [{name: a, phrases: ['{n}'], slots: {n: []}}]",
            "commands.0.slots.n: write num",
        ),
        (
            "commands: [{name: a, phrases: ['{number}'], slots: {number: [x]}}]",
            "commands.0.slots.number: number is a slot of its own",
        ),
        (
            "command_hook: {exec: [heard]}",
            "command_hook.exec: the program must be an absolute path",
        ),
        ("command_hook: {exec: /bin/true}", "command_hook.exec: Input should be a valid list"),
        ("command_hook: {webhook: 'ftp://10.0.0.1/'}", "command_hook.webhook: write a URL such as"),
        ("command_hook: {webhook: 'http://1.2.3.4/'}", "1.2.3.4 is no address of a local network"),
        (
            "command_hook: {sources: [radio]}",
            "command_hook.sources.0: Input should be 'microphone'",
        ),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, text)), problems(tmp_path, text)


@pytest.mark.parametrize(
    "url", ["http://192.168.1.5:8123/x", "https://homeassistant.local/x", "http://[fd00::1]/x"]
)
def test_webhooks_on_the_local_network_are_taken(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, f"command_hook: {{webhook: '{url}'}}").command_hook.webhook == url


def test_phrases_without_end_are_refused(tmp_path: Path) -> None:
    many = ", ".join(f"v{i}" for i in range(90))
    slots = f"{{a: [{many}], b: [{many}]}}"
    text = f"commands: [{{name: a, phrases: ['{{a}} of {{b}}'], slots: {slots}}}]"
    (said,) = problems(tmp_path, text)
    assert "its slots make more than 2000 phrases" in said
