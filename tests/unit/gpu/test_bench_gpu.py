"""scripts/bench-gpu on the CPU: what it measures, and that it refuses to guess without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.engine.ort import Tensor
from agent.errors import CompatibilityError
from scripts.gpu.__main__ import main
from scripts.gpu.feeds import random_feeds
from scripts.gpu.table import table
from scripts.gpu.worker import _copies
from tests.unit.engine.graphs import doubling_graph

QUICK = ["--provider", "cpu", "--limit", "0.01", "--seconds", "1"]


def test_without_a_gpu_it_says_so_and_measures_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.gpu.__main__.find_gpu", lambda box: "")
    assert main([str(root / "models/builtin-vad")]) == 1
    said = capsys.readouterr()
    assert "there is no NVIDIA GPU" in said.err
    assert "--provider cpu" in said.err
    assert said.out == ""


def test_a_gpu_without_its_runtime_is_told_with_the_command(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.gpu.__main__.find_gpu", lambda box: "Jetson Orin Nano")
    monkeypatch.setattr(
        "agent.runtimes.proof._CODE",
        'print(\'answer {"works": false, "reason": "a build without CUDA", "version": "1", '
        '"file": "/a/b/c"}\')',
    )
    assert main([str(root / "models/builtin-vad")]) == 1
    assert "cuda: a build without CUDA; put its runtime in place with scripts/install-gpu" in (
        capsys.readouterr().err
    )


def test_nothing_named_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "name a model folder, --make NAME... or --graph FILE..." in capsys.readouterr().err


def test_published_side_files_that_lack_are_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--make", "all", "--configs", str(tmp_path / "none"), *QUICK]
    assert main([*arguments, "--work", str(tmp_path / "work")]) == 1
    assert "--configs must name the folder with config.yaml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_graphs_of_a_streaming_model_are_measured_with_their_placement(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    assert main([str(root / "models/builtin-online"), *QUICK, "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    assert result["form"] == "int8"
    assert set(result["graphs"]) == {"builtin-online/model", "builtin-online/decoder"}
    for graph in result["graphs"].values():
        assert set(graph["nodes"]) == {"cpu"}
        assert graph["p50_ms"] > 0
        assert graph["runs"] >= 2
        assert any("Quantize" in name for name in graph["computed_on_cpu"])
    assert result["graphs"]["builtin-online/model"]["shapes"]["speech"][1] == 20
    assert "builtin-online/decoder" in capsys.readouterr().out


def test_a_graph_file_alone_is_fed_with_random_numbers(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    file = root / "models/builtin-vad/model.onnx"
    assert main(["--graph", str(file), *QUICK, "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())["results"]
    assert result["new_length_ms"] >= 0
    assert result["graphs"]["model.onnx"]["shapes"]["speech"][:2] == [1, 17]


def test_a_graph_that_fails_is_a_line_and_the_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad.onnx", tmp_path / "good.onnx"
    bad.write_bytes(b"not a graph")
    good.write_bytes(doubling_graph())
    assert main(["--graph", str(bad), str(good), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "bad.onnx: " in said
    assert "good.onnx" in said
    assert main(["--graph", str(bad), *QUICK]) == 1


def test_open_sizes_are_those_of_the_audio() -> None:
    ports = [
        Tensor("speech", "tensor(float)", ("batch", "length", 560)),
        Tensor("speech_lengths", "tensor(int32)", ("batch",)),
        Tensor("language", "tensor(int32)", ("batch",)),
        Tensor("in_cache_0", "tensor(float)", ("batch", 512, 10)),
        Tensor("inputs", "tensor(int64)", (1, "tokens")),
    ]
    feeds = random_feeds(ports, 3.0)
    assert feeds["speech"].shape == (1, 50, 560)
    assert feeds["speech_lengths"].tolist() == [50]
    assert feeds["language"].tolist() == [0]
    assert feeds["in_cache_0"].shape == (1, 512, 10)
    assert (feeds["inputs"].dtype, feeds["inputs"].shape) == (np.dtype("int64"), (1, 50))
    with pytest.raises(CompatibilityError, match=r"the input text is tensor\(string\)"):
        random_feeds([Tensor("text", "tensor(string)", (1,))], 3.0)


def test_int8_nodes_that_a_gpu_leaves_to_the_cpu_are_told() -> None:
    graph = {
        "p50_ms": 12.0,
        "p95_ms": 13.0,
        "nodes": {"cuda": 700, "cpu": 300},
        "copies": 90,
        "computed_on_cpu": {"MatMulInteger": 200, "DynamicQuantizeLinear": 100},
    }
    result = {
        "name": "paraformer-zh int8",
        "form": "int8",
        "provider": "cuda",
        "load_s": 3.0,
        "first_work_s": 1.0,
        "new_length_ms": 180.0,
        "graphs": {"paraformer-zh/model": graph},
    }
    lines = table(
        {
            "gpu": "Jetson Orin Nano",
            "board": "",
            "power_mode": "power mode 15W",
            "versions": {"onnxruntime-gpu": "1.23.0"},
            "seconds": 10.0,
            "results": [result],
        }
    )
    assert lines[0] == ("Jetson Orin Nano; power mode 15W; onnxruntime-gpu 1.23.0; 10 s of audio")
    assert lines[2].split()[-3:] == ["700", "300", "90"]
    assert "+180 ms" in lines[2]
    assert "no kernels for MatMulInteger (200), DynamicQuantizeLinear (100)" in lines[3]


def test_copies_between_the_memories_are_counted_once_a_node(tmp_path: Path) -> None:
    events = [
        {"name": "Memcpy_token_1_kernel_time", "args": {"op_name": "MemcpyFromHost"}},
        {"name": "Memcpy_token_1_kernel_time", "args": {"op_name": "MemcpyFromHost"}},
        {"name": "Memcpy_token_2_kernel_time", "args": {"op_name": "MemcpyToHost"}},
        {"name": "a_kernel_time", "args": {"op_name": "MatMul"}},
        {"name": "session"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(events))
    (tmp_path / "torn.json").write_text("[{")
    assert _copies([tmp_path / "a.json", tmp_path / "torn.json"]) == 2
