"""Side-by-side runs: turns, ratios, and the page that is written from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.rounds import Lap, compared, mean_lap, run_rounds, spread
from benchmarks.sides import prepare_for_sherpa
from benchmarks.write_performance import document, main, verdict
from tests.model_loading.graphs import mvn
from tests.unit.engine.graphs import doubling_graph


def test_every_round_begins_with_another_side_and_the_first_is_not_counted() -> None:
    order: list[str] = []
    works = {name: (lambda name=name: order.append(name)) for name in "abc"}
    laps = run_rounds(works, 2, pause_s=0)
    assert "".join(order) == "abcbcacab"
    assert {name: len(found) for name, found in laps.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_slow_spell_of_the_machine_does_not_change_the_ratio() -> None:
    ours = [Lap(1.0, 0.9), Lap(10.0, 0.9), Lap(1.0, 0.9)]
    other = [Lap(2.0, 1.8), Lap(20.0, 1.8), Lap(2.0, 1.8)]
    found = compared({"agent": ours, "peer": other}, "agent")
    assert found["ratios"] == {
        "agent / peer": {
            "wall": {"p25": 0.5, "p50": 0.5, "p75": 0.5},
            "cpu": {"p25": 0.5, "p50": 0.5, "p75": 0.5},
        }
    }
    assert found["sides"]["peer"]["wall_ms"]["p50"] == 2000
    assert found["sides"]["agent"]["least_ms"] == 1000


def test_laps_that_belong_together_are_averaged() -> None:
    assert mean_lap([Lap(1.0, 2.0), Lap(3.0, 4.0)]) == Lap(2.0, 3.0)


@pytest.mark.parametrize(
    ("values", "wanted"), [([3.0], (3.0, 3.0, 3.0)), ([1.0, 2.0, 3.0, 4.0, 5.0], (2.0, 3.0, 4.0))]
)
def test_the_spread_is_told_by_quartiles(
    values: list[float], wanted: tuple[float, float, float]
) -> None:
    assert tuple(spread(values).values()) == wanted


def ratio(cpu: float, wall: float) -> dict[str, Any]:
    return {
        kind: {"p25": value, "p50": value, "p75": value}
        for kind, value in (("cpu", cpu), ("wall", wall))
    }


@pytest.mark.parametrize(
    ("cpu", "wall", "said"),
    [(0.4, 0.5, "goal reached"), (0.4, 0.55, "holds"), (0.59, 0.61, "missed")],
)
def test_a_ratio_is_judged_by_the_worse_of_its_medians(cpu: float, wall: float, said: str) -> None:
    assert verdict(ratio(cpu, wall), 0.6, 0.5) == said
    assert verdict(ratio(cpu, wall), 0.0, 0.0) == ""


BOX = {
    "time": "2026-01-02T03:04:05+00:00",
    "board": "Raspberry Pi 5",
    "cpu": {"model": "Cortex-A76", "cores": 4, "int8": ["asimddp"]},
    "versions": {"onnxruntime": "1.32.0", "sherpa-onnx": "2.0.1"},
    "load_average": [0.1, 1.2],
}


def run_of(name: str, **ratios: dict[str, Any]) -> dict[str, Any]:
    laps = [Lap(0.1, 0.1), Lap(0.1, 0.1)]
    entry = {"name": "a hop", "form": "s8-from-u8", **compared({"agent": laps}, "agent")}
    entry["ratios"] = ratios
    return {**BOX, "what": name, "model": "m", "threads": 1, "comparisons": [entry]}


def test_the_page_tells_the_box_the_figures_and_what_is_asked(tmp_path: Path) -> None:
    run = run_of("streaming", **{"agent / sherpa-onnx": ratio(0.7, 0.72), "agent / x": ratio(1, 1)})
    bench = {
        **BOX,
        "results": [
            {
                "model": "m@1",
                "variant": "int8",
                "derived": "s8-from-u8",
                "provider": "cpu",
                "threads": 1,
                "load_s": 0.7,
                "memory_mb": 240,
                "times": [{"what": "hop of 600 ms", "p50_ms": 26.0, "p95_ms": 30.0}],
            },
            {"model": "bad@1", "variant": "int8", "derived": None, "problem": "damaged"}
            | {"provider": "cpu", "threads": 1},
        ],
    }
    files = {"run.json": run, "bench.json": bench}
    for name, tree in files.items():
        (tmp_path / name).write_text(json.dumps(tree))
    page = tmp_path / "performance.md"
    arguments = [str(tmp_path / "run.json"), "--bench", str(tmp_path / "bench.json")]
    assert main([*arguments, "--to", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text == document([run], bench)
    assert (
        "on Raspberry Pi 5 (Cortex-A76, 4 cores, asimddp), 1 thread(s), load average 0.1 and 1.2"
        in text
    )
    assert "| agent (s8-from-u8) | 2 | 100.0 (100.0 to 100.0) |" in text
    assert (
        "| agent / sherpa-onnx | 0.700 (0.700 to 0.700) | 0.720 (0.720 to 0.720) | <= 0.75 | "
        "<= 0.6 | holds |"
    ) in text
    assert "| agent / x | 1.000 (1.000 to 1.000) | 1.000 (1.000 to 1.000) |  |  |  |" in text
    assert "| m@1 | s8-from-u8 on cpu | 1 | 0.70 | 240 | hop of 600 ms | 26.0 | 30.0 |" in text


def test_the_page_tells_how_many_streams_each_server_holds(tmp_path: Path) -> None:
    late = {"p50": 41.2, "p95": 95.6, "p99": 132.4}
    held = {
        "streams": 12,
        "starts": "in phase",
        "mode": "2pass",
        "partial_ms": late,
        "final_after_speech_ms": {"p50": 900, "p95": 950, "p99": 990},
        "in_time": True,
        "server_cores": 1.5,
        "server_cpu_ms_a_hop": 75,
        "server_peak_mb": 340,
    }
    starved = {**held, "streams": 13, "final_after_speech_ms": None, "in_time": False}
    (tmp_path / "run.json").write_text(json.dumps(run_of("streaming")))
    (tmp_path / "held.json").write_text(json.dumps([held, starved]))
    page = tmp_path / "performance.md"
    arguments = [str(tmp_path / "run.json"), "--to", str(page), "--streams"]
    with pytest.raises(SystemExit):
        main([*arguments, "held.json"])
    assert main([*arguments, f"peer={tmp_path / 'held.json'}"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| peer | 2pass | in phase | 12 | 41 / 96 / 132 | 900 / 950 / 990 | 75 | 1.50 |" in text
    assert "| 13 | 41 / 96 / 132 |  | 75 | 1.50 | 340 | late |" in text


CONFIG = """
frontend_conf: {lfr_m: 7, lfr_n: 6}
encoder_conf: {output_size: 512}
decoder_conf: {att_layer_num: 16, kernel_size: 11}
"""


def test_a_model_is_prepared_for_sherpa_without_a_change_to_its_graph(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokens.json").write_text('["<blank>", "字"]', encoding="utf-8")
    (model / "config.yaml").write_text(CONFIG)
    (model / "am.mvn").write_bytes(mvn(2))
    (model / "model_quant.onnx").write_bytes(doubling_graph())
    prepared = prepare_for_sherpa(model, tmp_path / "work")
    assert (prepared / "tokens.txt").read_text(encoding="utf-8") == "<blank> 0\n字 1\n"
    graph = onnx.load(prepared / "model_quant.onnx")
    assert graph.graph == onnx.load_model_from_string(doubling_graph()).graph
    found = {entry.key: entry.value for entry in graph.metadata_props}
    assert (found["vocab_size"], found["neg_mean"], found["inv_stddev"]) == (
        "2",
        "0.0,0.0",
        "1.0,1.0",
    )
    assert (found["lfr_window_size"], found["decoder_num_blocks"]) == ("7", "16")
