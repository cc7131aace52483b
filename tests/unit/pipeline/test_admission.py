"""Admission by measured cost, with a fake clock and made-up costs."""

from __future__ import annotations

import pytest

from agent.errors import Overloaded
from agent.pipeline.admission import HOLD_S, LoadLimits, LoadMeter, Step
from agent.pipeline.costs import RunCost
from agent.types import RecognitionMode, StreamOptions

ONLINE = StreamOptions(mode=RecognitionMode.ONLINE)
HOP_MS = 600


class Box:
    """A meter with streams that cost what the test says."""

    def __init__(self, workers: int = 2, batch: int = 1, **limits: float | bool) -> None:
        self.now = 100.0
        limits.setdefault("max_load", 0.9)
        self.meter = LoadMeter(workers, batch, LoadLimits(**limits), lambda: self.now)  # type: ignore[arg-type]
        self.streams: list[str] = []

    def costs(self, hop_ms: float, own_ms: float = 0.0) -> None:
        """A hop's runs, and the own work for as much audio as a hop has."""
        for _ in range(50):
            self.meter.ran("encoder", 1, 0.8 * hop_ms / 1000)
            self.meter.ran("decoder", 1, 0.2 * hop_ms / 1000)
            self.meter.worked(own_ms / 1000, HOP_MS / 1000)

    def open(self, options: StreamOptions = ONLINE) -> tuple[StreamOptions, tuple[str, ...]]:
        got = self.meter.admit(options)
        self.streams.append(f"s{len(self.streams)}")
        self.meter.opened(self.streams[-1], got.options)
        return got.options, got.reasons

    def fill(self, most: int = 1000) -> int:
        """Open streams until one is refused; how many are open then."""
        while len(self.streams) < most:
            try:
                self.open()
            except Overloaded:
                break
        return len(self.streams)

    def close(self, count: int) -> None:
        for _ in range(count):
            self.meter.closed(self.streams.pop())

    def wait(self, seconds: float) -> Step:
        """Let time pass, judging the load each second as health does."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.meter.update()
        return self.meter.step


def test_as_many_streams_are_taken_as_the_measured_cost_allows() -> None:
    box = Box(degrade=False)
    box.costs(hop_ms=40, own_ms=19)  # 59 of 600 ms: ten fill a core
    assert box.fill() == 18  # up to 90 %
    with pytest.raises(Overloaded, match=r"make the others late .*at most 90 %") as refused:
        box.open()
    assert 2 <= refused.value.retry_after <= 30


def test_before_anything_was_measured_streams_are_taken() -> None:
    assert Box().fill(50) == 50


def test_the_first_stream_is_taken_on_any_box() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=5000)
    box.open()
    with pytest.raises(Overloaded):
        box.open()


def test_sharing_counts_once_it_was_seen() -> None:
    box = Box(batch=8, degrade=False)
    box.costs(hop_ms=59)
    assert box.fill() == 18
    for items in (1, 2, 4, 8) * 100:
        box.meter.ran("encoder", items, 0.8 * (0.03 + 0.03 * items))
        box.meter.ran("decoder", items, 0.2 * (0.03 + 0.03 * items))
    box.wait(1 + 3 * HOLD_S)
    assert 28 <= box.fill() <= 32  # 33.75 ms a hop in runs of eight


def test_a_stream_with_longer_hops_needs_less() -> None:
    box = Box()
    box.costs(hop_ms=59)
    short = box.meter.pressure(ONLINE).load
    long = box.meter.pressure(StreamOptions(chunk_size=(5, 20, 5))).load
    assert long == pytest.approx(short / 2)
    assert box.meter.pressure(StreamOptions(mode=RecognitionMode.OFFLINE)).load == 0.0


def test_near_the_limit_new_streams_get_less_step_by_step_and_are_told() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=59)  # ten streams fill a core, nine are the limit
    asked = StreamOptions(mode=RecognitionMode.TWO_PASS)
    got = [box.open(asked) for _ in range(9)]
    modes = [options.mode for options, _ in got]
    assert modes[:6] == [RecognitionMode.TWO_PASS] * 6
    assert modes[6:] == [RecognitionMode.ONLINE] * 3
    assert [options.chunk_size[1] for options, _ in got] == [10] * 8 + [20]
    assert [len(reasons) for _, reasons in got] == [0] * 6 + [1, 1, 2]
    assert "no second pass" in got[6][1][0]
    assert "every 1200 ms instead of 600" in got[8][1][1]


def test_streams_that_are_open_keep_what_they_got() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=59)
    first, _ = box.open(StreamOptions(mode=RecognitionMode.TWO_PASS))
    box.fill()
    assert box.meter.step >= Step.LONGER_HOP
    assert (first.mode, first.chunk_size) == (RecognitionMode.TWO_PASS, (5, 10, 5))


def test_without_degrading_a_stream_gets_everything_or_nothing() -> None:
    box = Box(workers=1, degrade=False)
    box.costs(hop_ms=59)
    for _ in range(9):
        assert box.open() == (ONLINE, ())
    with pytest.raises(Overloaded):
        box.open()


def test_a_step_is_taken_back_after_a_while_below_it_and_one_at_a_time() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=59)
    box.fill()
    assert box.wait(1) is Step.NOTHING
    box.close(len(box.streams) - 2)
    assert box.wait(HOLD_S) is Step.NOTHING
    assert box.wait(1) is Step.LONGER_HOP
    assert box.wait(HOLD_S) is Step.ONE_PASS
    assert box.wait(HOLD_S) is Step.EVERYTHING


def test_a_load_that_goes_to_and_fro_at_a_step_does_not_move_it() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=59)
    steps = []
    for _ in range(6):
        box.open()
    for _ in range(6):
        box.open(StreamOptions(mode=RecognitionMode.ONLINE, chunk_size=(5, 10, 5)))
        steps.append(box.wait(2))
        box.close(1)
        steps.append(box.wait(2))
    assert set(steps) == {Step.ONE_PASS}


def test_lateness_that_is_seen_refuses_new_streams_whatever_the_costs_say() -> None:
    box = Box(late_ms=600)
    box.costs(hop_ms=1)
    box.open()
    for _ in range(100):
        box.meter.partial_latency(0.05)
    assert box.wait(1) is Step.EVERYTHING
    for _ in range(20):
        box.meter.partial_latency(0.8)
    with pytest.raises(Overloaded, match="800 ms late"):
        box.open()
    assert "partials come late" in box.meter.cause()


def test_lateness_is_forgotten_with_the_streams_that_made_it_and_with_time() -> None:
    box = Box(late_ms=600)
    box.open()
    box.open()
    for _ in range(100):
        box.meter.partial_latency(0.8)
    assert box.wait(1) is Step.NOTHING
    box.close(1)
    assert box.wait(1 + 3 * HOLD_S) is Step.EVERYTHING
    for _ in range(100):
        box.meter.partial_latency(0.8)
    assert box.wait(1) is Step.NOTHING
    assert box.wait(20) is Step.EVERYTHING


def test_one_slow_partial_of_a_few_is_no_reason() -> None:
    box = Box()
    box.open()
    for _ in range(5):
        box.meter.partial_latency(3.0)
    assert box.wait(1) is Step.EVERYTHING


def test_the_lateness_of_a_few_is_shown_though_it_is_not_judged() -> None:
    box = Box()
    box.open()
    assert box.meter.seen_late() == (None, None)
    box.meter.partial_latency(0.25)
    assert box.meter.seen_late() == (0.25, None)
    assert box.meter.to_json()["partials_late_ms"] == 0
    box.now += 60
    assert box.meter.seen_late() == (None, None)


def test_late_finals_cost_new_streams_the_second_pass_only() -> None:
    box = Box(final_late_ms=1000)
    box.open()
    for _ in range(30):
        box.meter.final_latency(1.5)
    options, reasons = box.open(StreamOptions(mode=RecognitionMode.TWO_PASS))
    assert options.mode is RecognitionMode.ONLINE
    assert options.chunk_size == (5, 10, 5)
    assert "finals are up to 1500 ms late" in reasons[0]


def test_retry_after_is_when_a_stream_can_be_expected_to_end() -> None:
    box = Box(workers=1, degrade=False)
    box.costs(hop_ms=59)
    box.open()
    box.now += 90
    box.close(1)
    box.fill()
    with pytest.raises(Overloaded) as refused:
        box.open()
    assert refused.value.retry_after == 10  # nine streams of ninety seconds


def test_an_empty_box_is_under_no_pressure() -> None:
    box = Box(workers=1)
    box.costs(hop_ms=590)
    assert box.meter.update() is Step.EVERYTHING
    box.fill()
    box.close(len(box.streams))
    assert box.wait(4 * HOLD_S) is Step.EVERYTHING


def test_what_is_said_of_the_load_is_plain_json() -> None:
    box = Box(batch=8)
    box.costs(hop_ms=59)
    box.open()
    assert box.meter.to_json() == {
        "step": "everything",
        "live_streams": 1,
        "load_with_one_more": pytest.approx(0.098, abs=0.001),
        "max_load": 0.9,
        "partials_late_ms": 0,
        "finals_late_ms": 0,
        "hops_share_a_run": 8,
    }


def test_the_cost_of_a_run_is_a_line_over_its_items() -> None:
    cost = RunCost()
    for items in (1, 2, 3, 8) * 20:
        cost.add(items, 0.010 + 0.002 * items)
    assert cost.per_item(1) == pytest.approx(0.012)
    assert cost.per_item(8) == pytest.approx(0.002 + 0.010 / 8)


@pytest.mark.parametrize("seconds", [lambda n: 0.05, lambda n: 0.06 / n])
def test_noise_never_makes_more_items_free_or_a_run_cost_less_than_nothing(seconds) -> None:
    cost = RunCost()
    for items in (1, 2, 4, 8) * 20:
        cost.add(items, seconds(items))
    for items in (1, 4, 16):
        assert cost.per_item(items) > 0
