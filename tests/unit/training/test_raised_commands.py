"""What scripts/evaluate counts as a command."""

from __future__ import annotations

import pytest

from scripts.evaluation import commands


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        (["打开客厅的灯"], ["打开客厅的灯"]),
        (["温度调到二十五度", ""], ["温度调到二十五度"]),
        (["yes", "two hello"], ["yes"]),
        (["数字", "signal six", "停止一慢一续的放"], []),
        ([], []),
    ],
)
def test_a_final_that_is_a_phrase_of_the_vocabulary_is_a_command(
    finals: list[str], expected: list[str]
) -> None:
    assert commands.raised(finals) == expected
