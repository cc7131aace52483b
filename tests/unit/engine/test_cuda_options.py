"""What a session on CUDA is opened with: no GPU is needed to know."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from agent.engine import ort
from agent.engine.base import GpuSettings
from agent.engine.cuda_options import cuda_options
from agent.errors import CompatibilityError
from tests.unit.engine.graphs import doubling_graph

KNOWN = {
    "device_id",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "do_copy_in_default_stream",
    "use_tf32",
}


def test_convolutions_are_never_searched_exhaustively() -> None:
    options = cuda_options(GpuSettings(), "1.23.0")
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["do_copy_in_default_stream"] == "1"
    assert set(options) <= KNOWN
    assert all(isinstance(value, str) for value in options.values())


def test_the_arena_has_the_configured_limit_in_bytes() -> None:
    options = cuda_options(GpuSettings(device=1, arena_mb=1500), "1.23.0")
    assert (options["device_id"], options["gpu_mem_limit"]) == ("1", str(1500 * 1024 * 1024))
    assert "gpu_mem_limit" not in cuda_options(GpuSettings(), "1.23.0")


@pytest.mark.parametrize(
    ("version", "told"),
    [("1.17.3", False), ("1.18.0", True), ("1.23.0+jp6", True), ("2.0", True), ("nightly", False)],
)
def test_tf32_is_switched_off_where_the_runtime_knows_it(version: str, told: bool) -> None:
    """Older ones refuse a session with an option that they do not know."""
    assert (cuda_options(GpuSettings(), version).get("use_tf32") == "0") == told


def test_a_session_on_cuda_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def session(data, options, providers, enable_fallback):  # type: ignore[no-untyped-def]
        asked["providers"] = providers
        return SimpleNamespace(
            get_providers=lambda: ["CUDAExecutionProvider"],
            get_inputs=list,
            get_outputs=list,
        )

    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(ort.onnxruntime, "preload_dlls", lambda: None, raising=False)
    gpu = GpuSettings(arena_mb=100)
    ort.open_graph(doubling_graph(), name="g", threads=1, provider="cuda", gpu=gpu)
    assert asked["providers"] == [("CUDAExecutionProvider", ort.provider_options("cuda", gpu))]
    assert ort.provider_options("cpu", gpu) == {}


def test_weights_above_the_limit_are_refused_before_the_runtime_forgets_it() -> None:
    data = doubling_graph() + b"\0" * (3 << 20)
    with pytest.raises(
        CompatibilityError, match=r"m/model: has 3 MB, and inference\.gpu_memory_mb"
    ):
        ort.open_graph(data, name="m/model", threads=1, provider="cuda", gpu=GpuSettings(0, 2))


class FakeSession:
    """Notes the options of its runs."""

    def __init__(self) -> None:
        self.shrank: list[str] = []

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["n"])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return []

    def run(
        self, names: object, feeds: object, options: ort.onnxruntime.RunOptions
    ) -> list[object]:
        key = "memory.enable_memory_arena_shrinkage"
        self.shrank.append(options.get_run_config_entry(key) if options else "")
        return []


@pytest.mark.parametrize(("low_memory", "shrinks"), [(True, ["", "gpu:1"]), (False, ["", ""])])
def test_with_little_memory_the_gpus_arena_is_given_back_after_long_audio(
    monkeypatch: pytest.MonkeyPatch, low_memory: bool, shrinks: list[str]
) -> None:
    session = FakeSession()
    monkeypatch.setattr(ort.onnxruntime, "InferenceSession", lambda *_, **__: session)
    monkeypatch.setattr(ort.onnxruntime, "preload_dlls", lambda: None, raising=False)
    graph = ort.open_graph(
        b"", name="g", threads=1, provider="cuda", low_memory=low_memory, gpu=GpuSettings(device=1)
    )
    for size in (10, 1 << 16):
        graph.run({"x": np.zeros(size, np.float32)})
    assert session.shrank == shrinks
