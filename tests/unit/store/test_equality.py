"""Derived graphs are used only where they compute the very same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from agent.engine import ort
from agent.errors import CompatibilityError
from agent.store.equality import compare_speed, graphs_of, prove_equal
from agent.store.golden import built_in_clip
from agent.store.rewrite_signed import signed_weights
from agent.types import Int16, Recognition, StreamOptions
from tests.model_loading.graphs import large_paraformer
from tests.unit.store.signed import products_saturate

WIDTH = 64
CLIP = built_in_clip()


@dataclass
class Reader:
    """A recogniser that shows its graph frames of noise, as many as the audio has."""

    parts: dict[str, tuple[ort.Graph, ...]]
    read: list[int] = field(default_factory=list)

    def decode(self, batch: list[Int16], options: StreamOptions) -> list[Recognition]:
        self.read.append(len(batch[0]))
        frames = len(batch[0]) // 960
        speech = np.random.default_rng(frames).standard_normal((1, frames, 560))
        for graph in self.parts["graphs"]:
            graph.run({"speech": speech.astype(np.float32), "speech_lengths": ort.int32(frames)})
        return [Recognition("")]


# `graphs_of` looks into the agent's own objects only.
Reader.__module__ = "agent.tests"


def reader(*graphs: bytes) -> Reader:
    opened = (ort.open_graph(data, name=f"m/{i}", threads=1) for i, data in enumerate(graphs))
    return Reader({"graphs": tuple(opened)})


@pytest.fixture(scope="module")
def unsigned() -> bytes:
    """A recogniser with a stack of int8 layers whose result reaches the output."""
    data = large_paraformer(0, np.random.default_rng(0), width=WIDTH)
    return with_constant(data, "naught", lambda value: np.array(1, np.float32))


def with_constant(data: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
    model = onnx.load_model_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    changed = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(changed, name))
    return bytes(model.SerializeToString())


def one_bit_off(weight: Any) -> Any:
    weight[3, 5] ^= 1
    return weight


def saturated(weight: Any) -> Any:
    """What a product of bytes without VNNI makes of the largest weights."""
    return np.clip(weight, -90, 90)


def test_signed_weights_are_proven_equal_where_their_products_are(unsigned: bytes) -> None:
    signed = reader(signed_weights(unsigned, "m"))
    if products_saturate():
        with pytest.raises(CompatibilityError, match="differs from the original's on this CPU"):
            prove_equal("asr_offline", reader(unsigned), signed, CLIP)
    else:
        assert prove_equal("asr_offline", reader(unsigned), signed, CLIP) == 3 * 4


@pytest.mark.parametrize("fault", [one_bit_off, saturated])
def test_a_difference_in_a_weight_is_found(unsigned: bytes, fault: Callable[[Any], Any]) -> None:
    other = with_constant(signed_weights(unsigned, "m"), "w0_signed", fault)
    with pytest.raises(CompatibilityError) as caught:
        prove_equal("asr_offline", reader(unsigned), reader(other), CLIP)
    assert caught.value.message == (
        "m/0: its output logits differs from the original's on this CPU"
    )


def test_every_graph_is_compared(unsigned: bytes) -> None:
    other = with_constant(unsigned, "w0", one_bit_off)
    with pytest.raises(CompatibilityError, match=r"m/1: its output logits differs"):
        prove_equal("asr_offline", reader(unsigned, unsigned), reader(unsigned, other), CLIP)


def test_models_of_other_graphs_are_not_compared(unsigned: bytes) -> None:
    with pytest.raises(CompatibilityError, match=r"the graphs m/0, m/1, derived were m/0"):
        prove_equal("asr_offline", reader(unsigned, unsigned), reader(unsigned), CLIP)


def test_a_graph_that_was_never_run_is_not_proven(unsigned: bytes) -> None:
    left, right = reader(unsigned), reader(unsigned)
    spare = ort.open_graph(unsigned, name="m/spare", threads=1)
    for model in (left, right):
        model.parts["spare"] = (spare,)
    with pytest.raises(CompatibilityError, match=r"can't be proven equal: m/spare was not run"):
        prove_equal("asr_offline", left, right, CLIP)


def test_a_slow_box_compares_each_graph_once_at_least(unsigned: bytes) -> None:
    clock = count(0.0, 100.0)
    models = reader(unsigned, unsigned), reader(unsigned, unsigned)
    assert prove_equal("asr_offline", *models, CLIP, clock=lambda: next(clock)) == 2


def test_speech_of_several_lengths_is_read(unsigned: bytes) -> None:
    model = reader(unsigned)
    prove_equal("asr_offline", model, reader(unsigned), CLIP)
    assert model.read == [16000, 36800, 80000]


def ticks(step_s: float) -> Callable[[], float]:
    times: Iterator[float] = count(0.0, step_s)
    return lambda: next(times)


@pytest.mark.parametrize(("step_s", "audio_s"), [(0.01, 10.0), (0.6, 5.0), (10.0, 1.0)])
def test_a_slow_box_is_timed_on_less_audio(unsigned: bytes, step_s: float, audio_s: float) -> None:
    model = reader(unsigned)
    speed = compare_speed("asr_offline", model, reader(unsigned), CLIP, clock=ticks(step_s))
    assert speed.audio_s == audio_s
    assert model.read == [16000, audio_s * 16000]
    assert speed.original_s == pytest.approx(step_s)
    assert speed.derived_s == pytest.approx(step_s)


def test_a_run_that_was_held_up_once_does_not_count(unsigned: bytes) -> None:
    slow, quick = 5.0, 0.01
    # Two rounds of two graphs on both sides: in each round another graph is held up.
    taken = [quick, *[slow] * 2, *[quick] * 4, *[slow] * 2]
    now = [0.0]
    times = iter([time for s in taken for time in (0.0, s)])

    def clock() -> float:
        now[0] += next(times)
        return now[0]

    models = reader(unsigned, unsigned), reader(unsigned, unsigned)
    speed = compare_speed("asr_offline", *models, CLIP, limit_s=0.0, clock=clock, wall=ticks(1.0))
    assert speed.original_s == pytest.approx(2 * quick)
    assert speed.derived_s == pytest.approx(2 * quick)


def test_the_faster_graph_is_seen_as_such(unsigned: bytes) -> None:
    slower = large_paraformer(2, np.random.default_rng(0), width=512)
    speed = compare_speed("asr_offline", reader(slower), reader(unsigned), CLIP, limit_s=0.5)
    assert speed.derived_s < speed.original_s


def test_graphs_are_found_in_every_part_of_a_model(unsigned: bytes) -> None:
    graph = ort.open_graph(unsigned, name="m/model", threads=1)
    inner = Reader({"graphs": (graph,)})
    outer = Reader({})
    outer.parts["deep"] = ({"list": [inner, outer]},)  # type: ignore[assignment]
    assert graphs_of(outer) == {"m/model": graph}
    assert graphs_of(object()) == {}


def test_watching_ends_with_the_work(unsigned: bytes) -> None:
    model = reader(unsigned)
    told: list[Any] = []
    prove_equal("asr_offline", model, reader(unsigned), CLIP)
    model.parts["graphs"][0].watch(told.append)
    model.decode([CLIP], StreamOptions())
    model.parts["graphs"][0].watch(None)
    model.decode([CLIP], StreamOptions())
    assert len(told) == 1
    assert set(told[0]) == {"speech", "speech_lengths"}
