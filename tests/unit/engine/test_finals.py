"""What a final goes through: punctuation that knows the stream, and numbers as they are written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from agent.engine.session import Session, SessionSettings
from agent.errors import InferenceError
from agent.types import (
    Int16,
    ModelSet,
    OfflineAsrModel,
    PunctuationModel,
    Recognition,
    RecognitionMode,
    SpeechSegment,
    StreamOptions,
    Transcript,
)
from tests.fakes import FakeOffline, FakeOnline, FakeVad, silence, tone


class Counting:
    """Closes each text with its number in the stream."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.seen: list[str] = []

    def punctuate(self, text: str) -> str:
        self.seen.append(text)
        if self.failure:
            raise InferenceError(self.failure, file="model.onnx")
        return f"{text}，" if len(self.seen) % 2 else f"{text}。"

    def start_stream(self) -> Counting:
        return Counting(self.failure)


class Reads(FakeOffline):
    """Reads the same in every segment."""

    def __init__(self, read: Recognition) -> None:
        super().__init__()
        self._read = read

    def decode(self, batch: Sequence[Int16], options: StreamOptions) -> list[Recognition]:
        return [self._read for _ in batch]


@dataclass
class Rewriter:
    """Writes 三百 as 300."""

    problem: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, text: str, language: str) -> str:
        self.asked.append((text, language))
        return text.replace("三百", "300")


SPEECH = np.concatenate([tone(3, 4), silence(6)] * 3)
OFFLINE = StreamOptions(mode=RecognitionMode.OFFLINE)
HUNDRED = Recognition("三百块", tuple("三百块"), ((0, 100), (100, 200), (200, 300)), "zh")


def finals(
    offline: OfflineAsrModel | None,
    punctuation: PunctuationModel | None = None,
    options: StreamOptions = OFFLINE,
    itn: Rewriter | None = None,
) -> list[Transcript]:
    """The finals of three segments."""
    models = ModelSet(FakeVad(), FakeOnline(), offline, punctuation)
    session = Session(models, options, SessionSettings(itn=itn), "s")
    found = []
    for item in [*session.accept(SPEECH), *session.finish()]:
        if isinstance(item, SpeechSegment):
            found.append(session.decode(item))
        elif isinstance(item, Transcript) and item.is_final:
            found.append(item)
    assert len(found) == 3
    return found


def test_the_punctuation_of_a_stream_keeps_its_state_from_segment_to_segment() -> None:
    model = Counting()
    for _ in range(2):
        assert [final.text for final in finals(FakeOffline(), model)] == [
            "3333，",
            "3333。",
            "3333，",
        ]
    assert model.seen == []


def test_finals_of_the_streaming_recogniser_are_punctuated_too() -> None:
    found = finals(None, Counting(), StreamOptions(mode=RecognitionMode.ONLINE))
    assert [final.text for final in found] == ["3333，", "3333。", "3333，"]


def test_numbers_are_rewritten_behind_the_punctuation_and_the_spoken_text_is_kept() -> None:
    rewriter = Rewriter()
    first = finals(Reads(HUNDRED), Counting(), itn=rewriter)[0]
    assert (first.text, first.spoken) == ("300块，", "三百块，")
    assert first.tokens == ("三", "百", "块")
    assert rewriter.asked[0] == ("三百块，", "zh")


def test_a_client_may_want_numbers_as_they_are_spoken() -> None:
    rewriter = Rewriter()
    options = replace(OFFLINE, itn=False)
    assert finals(Reads(HUNDRED), None, options, rewriter)[0].text == "三百块"
    assert rewriter.asked == []


def test_a_client_may_want_no_punctuation() -> None:
    options = replace(OFFLINE, punctuation=False)
    first = finals(Reads(HUNDRED), Counting(), options, Rewriter())[0]
    assert (first.text, first.spoken) == ("300块", "三百块")


def test_the_clients_language_counts_where_the_recogniser_tells_none() -> None:
    rewriter = Rewriter()
    options = replace(OFFLINE, language="ja")
    finals(Reads(replace(HUNDRED, language="")), None, options, rewriter)
    assert {language for _, language in rewriter.asked} == {"ja"}


def test_a_text_that_nothing_rewrites_is_not_kept_twice() -> None:
    assert {final.spoken for final in finals(FakeOffline(), Counting(), itn=Rewriter())} == {""}


def test_what_a_recogniser_has_formatted_itself_is_left_alone() -> None:
    rewriter = Rewriter()
    read = replace(HUNDRED, formatted=True)
    assert finals(Reads(read), Counting(), itn=rewriter)[0].text == "三百块"
    assert rewriter.asked == []


def test_a_segment_without_text_is_no_part_of_the_punctuated_stream() -> None:
    rewriter = Rewriter()
    assert [f.text for f in finals(Reads(Recognition("")), Counting(), itn=rewriter)] == [""] * 3
    assert rewriter.asked == []


def test_punctuation_that_fails_loses_no_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = finals(Reads(HUNDRED), Counting("its output is NaN"), itn=Rewriter())
    assert [final.text for final in found] == ["300块"] * 3
    assert "its output is NaN" in caplog.text
    assert "三百" not in caplog.text


def test_times_of_tokens_stay_within_their_segment() -> None:
    wide = Recognition("三百", ("三", "百"), ((0, 150), (550, 99_999)))
    found = finals(Reads(wide))
    assert (found[0].start_ms, found[0].timestamps[0]) == (0, (0, 0))
    for final in found:
        assert all(final.start_ms <= a <= b <= final.end_ms for a, b in final.timestamps)
