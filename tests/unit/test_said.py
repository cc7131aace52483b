"""Texts that the page says in Chinese: their codes and values, and that each has its Chinese."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import agent
from agent.audio.capture_protocol import HEADER, decode, encode
from agent.audio.source import SourceError, SourceState
from agent.said import LIST, Said, by_code, from_code, say, say_all

PACKAGE = Path(agent.__file__).parent
CHINESE = (PACKAGE / "web" / "static" / "zh_said.js").read_text(encoding="utf-8")
NESTED = say(
    "load_high",
    "{step}: {cause}",
    step=say("step_nothing", "new streams are refused"),
    cause=say_all(["plain", say("load_finals", "finals come late")], " and "),
)


def calls() -> Iterator[tuple[str, set[str]]]:
    """The code of every text, and the names of its values; none known: any."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "from agent.said import" in text else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                code = node.args[0]
                assert isinstance(code, ast.Constant), f"{path.name}: the code is not written out"
                yield code.value, {keyword.arg or "*" for keyword in node.keywords}


def table(name: str) -> dict[str, str]:
    """A table of zh_said.js."""
    body = CHINESE[CHINESE.index(f"export const {name} ") :]
    body = body[: body.index("\n};")]
    return dict(re.findall(r'^  (\w+):\s+"([^"]*)",$', body, re.M))


def test_every_text_has_its_chinese_with_values_that_it_has() -> None:
    chinese, known = table("ZH_SAID"), dict(calls())
    assert set(chinese) == set(known)
    for code, names in known.items():
        used = set(re.findall(r"\{(\w+)\}", chinese[code]))
        assert "*" in names or used <= names, code


def test_the_kinds_of_errors_are_codes_of_the_agent() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    kinds = table("ZH_ERRORS")
    assert len(kinds) > 20
    assert [kind for kind in kinds if f'"{kind}"' not in code] == []


def test_a_text_is_its_english_and_tells_its_code_and_values() -> None:
    assert NESTED == "new streams are refused: plain and finals come late"
    told = by_code(NESTED)
    assert told["values"]["step"]["code"] == "step_nothing"
    assert told["values"]["cause"]["code"] == LIST
    assert told["values"]["cause"]["values"]["items"][0] == "plain"
    several = say("model_in_place", "{id} serves: {reasons}", id="a", reasons=["b", "c"])
    assert several == "a serves: b; c"
    assert by_code("plain") == {"text": "plain"}


def test_a_text_survives_json_and_a_copy() -> None:
    again = from_code(json.loads(json.dumps(by_code(NESTED))))
    assert by_code(again) == by_code(NESTED) == by_code(copy.deepcopy(NESTED))
    assert from_code({"text": "plain"}) == "plain"


def test_braces_in_values_are_no_names() -> None:
    assert say("refused", "{id}: {message}", id="{message}", message="{0}") == "{message}: {0}"


def test_what_the_capture_process_says_keeps_its_code() -> None:
    said = say("microphone_none", "this box has no microphone; plug one in")
    message = encode(SourceError(SourceState.ABSENT, said))
    heard = decode(message[: HEADER.size], message[HEADER.size :])
    assert isinstance(heard, SourceError)
    assert heard.message == said
    assert isinstance(heard.message, Said)
    assert heard.message.code == "microphone_none"
