"""Commands in texts: what matches, with which slots, and where the bound is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config_commands import Command
from agent.types import SpokenCommand
from agent.voice_commands.matcher import LONGEST_TEXT, CommandMatcher, Match


def matcher(*commands: dict[str, Any]) -> CommandMatcher:
    return CommandMatcher([Command.model_validate(command) for command in commands])


def command(name: str, *phrases: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "phrases": list(phrases), **more}


ROOMS = {"room": {"living": ["客厅", "living room"], "bed": ["卧室", "bedroom"]}}
HOME = (
    command("light_on", "打开{room}的灯", "turn on the {room} light", "打开灯", slots=ROOMS),
    command("light_off", "关闭{room}的灯", "turn off the {room} light", "关闭灯", slots=ROOMS),
    command("degrees", "温度调到{number}度", "set the temperature to {number} degrees"),
    command("volume", "音量调到百分之{number}", "volume {number} percent"),
    command("dial", "拨打{digits}", "dial {digits}"),
    command("time", "what time is it", "现在几点"),
)


def found(text: str, *commands: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    said = matcher(*(commands or HOME)).match(text).command
    return (said.name, dict(said.slots)) if said else None


@pytest.mark.parametrize(
    ("text", "name", "slots"),
    [
        ("打开客厅的灯", "light_on", {"room": "living"}),
        ("打开卧室的灯。", "light_on", {"room": "bed"}),
        ("Turn on the living room light!", "light_on", {"room": "living"}),
        ("TURN OFF THE BEDROOM LIGHT", "light_off", {"room": "bed"}),
        ("打开灯", "light_on", {}),
        ("关闭灯", "light_off", {}),
        ("温度调到二十五度", "degrees", {"number": 25}),
        ("温度调到25度", "degrees", {"number": 25}),
        ("温度调到25℃。", "degrees", {"number": 25}),
        ("Set the temperature to twenty-five degrees.", "degrees", {"number": 25}),
        ("set temperature to 25°", "degrees", {"number": 25}),
        ("音量调到百分之五十", "volume", {"number": 50}),
        ("音量调到50%", "volume", {"number": 50}),
        ("Volume fifty percent", "volume", {"number": 50}),
        ("拨打一三八零零", "dial", {"digits": "13800"}),
        ("dial one three eight 00", "dial", {"digits": "13800"}),
        ("拨打 007", "dial", {"digits": "007"}),
        ("What time is it?", "time", {}),
    ],
)
def test_a_phrase_is_found_with_its_slots(text: str, name: str, slots: dict[str, Any]) -> None:
    assert found(text) == (name, slots)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "。",
        "今天天气不错",
        "打闭灯",
        "开灯",
        "打开厨房的灯",
        "别打开客厅的灯",
        "don't turn on the bedroom light",
        "turn the bedroom light",
        "温度调到度",
        "温度调到二五度",
        "温度调到25.5度",
        "拨打",
        "打开客厅的灯打开客厅的灯",
        "我昨天晚上打开客厅的灯看书",
        "what time is it in london",
        "灯" * (LONGEST_TEXT + 1),
    ],
)
def test_other_text_is_no_command(text: str) -> None:
    assert found(text) is None


def test_a_match_says_by_which_phrase_and_how_many_edits() -> None:
    said = matcher(*HOME).match("打开客厅德灯").command
    assert said == SpokenCommand("light_on", {"room": "living"}, "打开{room}的灯", 1)


@pytest.mark.parametrize(
    ("phrase", "text", "matches"),
    [
        ("播放音乐", "播放音月", False),  # 4 characters: none is forgiven
        ("播放音乐吉他", "播放音月吉他", True),  # 6: one
        ("播放音乐吉他", "播放乐吉他", True),
        ("播放音乐吉他", "播放音乐小吉他", False),  # 小 turns the sense
        ("播放音乐吉他", "播放音乐的吉他", True),
        ("播放音乐吉他", "播放音月即他", False),
        ("播放音乐一二三四五六七八", "播放音乐一二三四五六七九", False),  # numbers never
        ("甲乙丙丁戊己庚辛壬癸", "子乙丙丁戊己庚辛壬丑", True),  # 10: two
        ("甲乙丙丁戊己庚辛壬癸", "子乙丙丁戊己庚辛寅丑", False),
        ("music", "musik", False),  # 5 letters: none
        ("musics", "musiks", True),  # 6: one
        ("musics", "muziks", False),
        ("turn on the light", "turn on the night", True),
        ("turn on the light", "turn on the lights", True),
        ("turn on the light", "turn on the nights", False),
        ("turn on the light", "turn in the light", False),
    ],
)
def test_the_bound_grows_with_the_phrase_and_is_exact(
    phrase: str, text: str, matches: bool
) -> None:
    assert (found(text, command("c", phrase)) is not None) == matches


@pytest.mark.parametrize("bound", range(4))
def test_a_bound_that_is_set_holds_to_the_character(bound: int) -> None:
    only = matcher(command("c", "甲乙丙丁戊己庚辛", max_edits=bound))
    for edits in range(6):
        rest = "甲乙丙丁戊己庚辛"[edits:]
        for text in ("子" * edits + rest, rest, "子" * edits + "甲乙丙丁戊己庚辛"):
            said = only.match(text).command
            assert (said.edits if said else None) == (edits if edits <= bound else None)


@pytest.mark.parametrize("bound", [None, 0, 1, 2, 8])
def test_opposites_are_never_confused_whatever_the_bound(bound: int | None) -> None:
    for phrase, text in (
        ("打开灯", "关闭灯"),
        ("调高音量", "调低音量"),
        ("上一首", "下一首"),
        ("开始录音", "停止录音"),
        ("turn on the light", "turn off the light"),
        ("turn left", "turn right"),
        ("volume up", "volume down"),
        ("open the door", "close the door"),
        ("increase the volume", "decrease the volume"),
        ("lock the door", "unlock the door"),
    ):
        assert found(text, command("c", phrase, max_edits=bound)) is None, phrase


def test_a_text_equally_near_to_two_commands_is_none_and_names_them() -> None:
    music, video = command("music", "播放音乐吉他"), command("sound", "播放音响吉他")
    assert matcher(music, video).match("播放音月吉他") == Match(rivals=("music", "sound"))
    assert found("播放音乐吉他", music, video) == ("music", {})


def test_a_text_equally_near_to_two_values_of_a_slot_is_none() -> None:
    only = command("c", "打开{room}的台灯", slots={"room": ["东屋", "西屋"]})
    assert matcher(only).match("打开屋的台灯") == Match(rivals=("c",))
    assert found("打开东屋得台灯", only) == ("c", {"room": "东屋"})


def test_a_text_that_is_nearest_to_a_strict_command_is_no_other_one() -> None:
    strict = command("strict", "播放音乐吉他", max_edits=0)
    loose = command("loose", "播放音响琴他", max_edits=3)
    assert found("播放音月吉他", strict, loose) is None
    assert found("播放音响琴它", strict, loose) == ("loose", {})


def test_a_number_in_the_phrase_goes_before_a_slot() -> None:
    one, any_ = command("one", "打开一号灯"), command("any", "打开{number}号灯")
    assert found("打开1号灯", one, any_) == ("one", {})
    assert found("打开二号灯", one, any_) == ("any", {"number": 2})


def test_slots_may_be_named_and_there_may_be_several() -> None:
    both = command(
        "range", "从{from}到{to}", "{to} below {from}", slots={"from": "number", "to": "number"}
    )
    assert found("从十六到二十五", both) == ("range", {"from": 16, "to": 25})
    assert found("twenty five below sixteen", both) == ("range", {"to": 25, "from": 16})


def test_words_and_figures_of_the_same_text_are_both_looked_at() -> None:
    said = matcher(*HOME).match("温度调到二五度", "温度调到25度").command
    assert said is not None
    assert said.slots == {"number": 25}


def plain_edits(one: str, other: str) -> int:
    """Levenshtein's distance, by its definition."""
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            change = before + (char != wanted)
            before, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


@given(
    st.lists(st.text("甲乙开", min_size=1, max_size=6), min_size=1, max_size=6, unique=True),
    st.text("甲乙开", max_size=7),
    st.integers(0, 3),
)
def test_the_one_nearest_phrase_within_the_bound_is_found(
    phrases: list[str], text: str, bound: int
) -> None:
    """Against the definition, with 开 as a word that is never edited."""

    def distance(phrase: str) -> int | None:
        one, other = phrase.split("开"), text.split("开")
        if len(one) != len(other):
            return None
        return sum(plain_edits(a, b) for a, b in zip(one, other, strict=True))

    far = [(d, phrase) for phrase in phrases if (d := distance(phrase)) is not None]
    nearest = sorted(far)[:2]
    wanted = None
    if nearest and nearest[0][0] <= bound and len({d for d, _ in nearest}) == len(nearest):
        wanted = phrases.index(nearest[0][1])
    commands = [command(f"c{i}", phrase, max_edits=bound) for i, phrase in enumerate(phrases)]
    said = matcher(*commands).match(text).command
    assert (said.name if said else None) == (None if wanted is None else f"c{wanted}")


@given(st.text("打开关客厅卧室的灯请吧二十五度% on off light", max_size=20))
def test_what_matches_is_within_the_bound_and_other_bounds_only_add(text: str) -> None:
    exact = matcher(*({**c, "max_edits": 0} for c in HOME)).match(text).command
    usual = matcher(*HOME).match(text).command
    if exact is not None:
        assert usual is not None
        assert (usual.name, usual.slots, usual.edits) == (exact.name, exact.slots, 0)
    if usual is not None:
        assert usual.edits <= 3
