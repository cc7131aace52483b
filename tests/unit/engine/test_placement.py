"""Where nodes really run, and what is said of a provider that does not run them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from agent.engine import placement
from agent.engine.placement import (
    Placement,
    package_problem,
    placement_of_profiles,
    probe_provider,
    profile_placement,
    runtime_operators,
    runtime_packages,
)
from agent.errors import CompatibilityError, InferenceError
from tests.unit.engine.graphs import doubling_graph

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
RIGHT = np.array([[[12, 14]]], np.float32)
CPU_BUILD = pytest.mark.skipif(
    CUDA in onnxruntime.get_available_providers(), reason="this ONNX Runtime is a GPU build"
)


class FakeRuntime:
    """The module onnxruntime of a GPU build, with one thing wrong."""

    __version__ = "1.99.0"
    GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL=0)
    SessionOptions = SimpleNamespace

    def __init__(
        self, folder, *, listed=(CUDA, CPU), fails="", uses=(CUDA, CPU), ran=CUDA, y=RIGHT
    ):
        self.__file__ = str(folder / "__init__.py")
        self._listed, self._fails = listed, fails
        self._uses, self._ran, self._y = uses, ran, y
        (folder / "capi").mkdir()

    def get_available_providers(self):
        return list(self._listed)

    def InferenceSession(self, data, options, providers, enable_fallback):
        ((name, more),) = providers
        assert (data, name, enable_fallback) == (placement._PROBE_GRAPH, CUDA, 0)
        assert more["cudnn_conv_algo_search"] == "HEURISTIC"
        if self._fails:
            raise RuntimeError(self._fails)

        def end_profiling():
            path = f"{options.profile_file_prefix}_1.json"
            with open(path, "w") as file:
                json.dump([node("conv", "Conv", self._ran)] if self._ran else [], file)
            return path

        return SimpleNamespace(
            run=lambda names, feeds: [self._y],
            end_profiling=end_profiling,
            get_providers=lambda: list(self._uses),
        )


def node(name, operator, provider, index=0):
    """An event as ONNX Runtime writes it for a node that ran."""
    args = {"op_name": operator, "provider": provider, "node_index": str(index)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 1, "args": args}


def test_the_probe_takes_a_convolution_an_addition_and_a_product():
    model = onnx.load_model_from_string(placement._PROBE_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Add", "MatMul"]
    taps, one, mix = (numpy_helper.to_array(t) for t in model.graph.initializer)
    x = placement._PROBE_INPUT[0, 0]
    y = (np.convolve(x, taps[0, 0][::-1], "valid") + one) @ mix
    assert y.tolist() == placement._PROBE_OUTPUT[0, 0].tolist() == RIGHT[0, 0].tolist()


def test_the_cpu_works():
    assert probe_provider("cpu") == placement.ProviderState("cpu", True, True, "")


@CPU_BUILD
def test_a_build_without_cuda_says_so():
    state = probe_provider("cuda")
    assert (state.listed, state.works) == (False, False)
    assert state.reason.endswith("is a build without CUDA")


def test_a_gpu_that_runs_the_probe_works(tmp_path):
    assert probe_provider("cuda", runtime=FakeRuntime(tmp_path)).works


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"listed": [CPU]}, "the installed ONNX Runtime 1.99.0 is a build without CUDA"),
        (
            {"fails": "Failed to load library x.so with error: libcudnn.so.9: cannot open shared"},
            "libcudnn.so.9 can't be loaded; install the CUDA and cuDNN",
        ),
        (
            {"fails": "CUDA failure 209\nno kernel image is available for execution on the device"},
            "has no code for this GPU (ONNX Runtime 1.99.0 can't load it: CUDA failure 209)",
        ),
        ({"uses": [CPU], "ran": CPU}, "it does not start, and the CPU is silently used instead"),
        ({"ran": CPU}, "nodes that were meant for it silently ran elsewhere: 1 on cpu"),
        ({"ran": ""}, "the runtime does not say where the nodes ran"),
        ({"y": RIGHT + 1}, "it computes wrong: [[[13.0, 15.0]]] instead of [[[12.0, 14.0]]]"),
    ],
)
def test_a_gpu_that_does_not_run_the_probe_is_told_in_plain_words(tmp_path, fault, reason):
    state = probe_provider("cuda", runtime=FakeRuntime(tmp_path, **fault))
    assert not state.works
    assert reason in state.reason


def test_the_library_that_keeps_a_provider_from_starting_is_named(tmp_path):
    runtime = FakeRuntime(tmp_path, uses=[CPU], ran=CPU)
    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    library.write_bytes(b"not a library")
    state = probe_provider("cuda", runtime=runtime)
    assert state.reason.startswith("a library of it can't be loaded (")
    assert str(library) in state.reason


def test_a_runtime_that_can_not_be_used_at_all_is_a_reason():
    def broken():
        raise OSError("libonnxruntime.so.1: file too short")

    state = probe_provider("cuda", runtime=SimpleNamespace(get_available_providers=broken))
    assert not state.listed
    assert state.reason == "ONNX Runtime can't be used: libonnxruntime.so.1: file too short"


def test_nodes_of_a_real_graph_are_counted(root):
    data = (root / "models/builtin-vad/model_quant.onnx").read_bytes()
    session = onnxruntime.InferenceSession(data, providers=[CPU])
    feeds = {
        port.name: np.zeros([d if isinstance(d, int) else 3 for d in port.shape], np.float32)
        for port in session.get_inputs()
    }
    found = profile_placement(data, provider="cpu", feeds=feeds, threads=1)
    assert set(found.nodes) == {"cpu"}
    assert found.nodes["cpu"] == sum(found.cpu_counts.values()) > 50
    # Fused to another operator by some versions of the runtime.
    assert any(op.startswith("DynamicQuantize") and op.endswith("(12)") for op in found.cpu_ops)


def test_a_graph_that_can_not_be_profiled_says_why():
    with pytest.raises(CompatibilityError, match="can't load it"):
        profile_placement(b"not a graph", provider="cpu", feeds={}, threads=1)
    with pytest.raises(InferenceError):
        profile_placement(doubling_graph(), provider="cpu", feeds={}, threads=1)


def test_what_stayed_on_the_cpu_is_named_once_and_counted(tmp_path):
    events = [
        {"cat": "Session", "name": "model_run", "args": {}},
        node("a", "MatMul", CUDA, 1),
        node("b", "DynamicQuantizeLinear", CPU, 2),
        node("b", "DynamicQuantizeLinear", CPU, 2),
        node("c", "DynamicQuantizeLinear", CPU, 3),
        node("d", "Shape", CPU, 4),
    ]
    (tmp_path / "model.json").write_text(json.dumps(events))
    (tmp_path / "decoder.json").write_text(json.dumps([node("a", "MatMul", CUDA, 1)]))
    (tmp_path / "cut.json").write_text('[{"cat": "Node", "na')
    found = placement_of_profiles(tmp_path.iterdir())
    assert found.nodes == {"cpu": 3, "cuda": 2}
    assert found.cpu_ops == ("DynamicQuantizeLinear (2)", "Shape (1)")
    assert found.heavy_cpu_ops == ("DynamicQuantizeLinear",)


def test_a_graph_that_is_all_on_the_gpu_leaves_nothing_to_name():
    assert Placement({"cuda": 5}).cpu_ops == ()


def test_the_runtime_tells_its_operators():
    runtime = runtime_operators()
    assert runtime.known
    assert runtime.version == onnxruntime.__version__
    assert runtime.max_opset["ai.onnx"] >= 20
    assert runtime.definition("ai.onnx", "MatMul", 14) == 13
    assert runtime.definition("ai.onnx", "Gelu", 14) is None
    assert runtime.definition("ai.example", "Frobnicate", 1) is None
    assert runtime.kernels == {}


@CPU_BUILD
def test_the_runtime_tells_its_kernels_when_asked():
    runtime = runtime_operators(kernels=True)
    assert runtime.has_kernel("cpu", "ai.onnx", "DynamicQuantizeLinear", 11)
    assert not runtime.has_kernel("cpu", "ai.onnx", "Relu", 1)
    assert not runtime.has_kernel("cuda", "ai.onnx", "Relu", 14)


def test_a_build_that_does_not_tell_its_operators_is_unknown(tmp_path):
    runtime = FakeRuntime(tmp_path)
    runtime.capi = SimpleNamespace(onnxruntime_pybind11_state=SimpleNamespace())
    assert not runtime_operators(runtime=runtime).known


def test_kernels_are_not_asked_of_a_build_that_would_end_the_process(tmp_path):
    """Where a provider's library can't be loaded, the question is a segmentation fault."""

    def ask():
        pytest.fail("asked")

    schema = SimpleNamespace(domain="", name="MatMul", since_version=13)
    state = SimpleNamespace(get_all_operator_schema=lambda: [schema], get_all_opkernel_def=ask)
    runtime = FakeRuntime(tmp_path)
    runtime.capi = SimpleNamespace(onnxruntime_pybind11_state=state)
    (tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so").write_bytes(b"not a library")
    found = runtime_operators(kernels=True, runtime=runtime)
    assert found.since == {"ai.onnx": {"MatMul": (13,)}}
    assert found.kernels == {}


def install(folder, name, version, *, top_level="", file=""):
    """An installed package, as pip leaves its metadata."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if top_level:
        (info / "top_level.txt").write_text(f"{top_level}\n")
    (info / "RECORD").write_text(f"{file},,\n" if file else "")


def test_every_package_that_provides_the_runtime_is_found(tmp_path):
    install(tmp_path, "onnxruntime", "1.32.0", top_level="onnxruntime")
    install(tmp_path, "onnxruntime-gpu", "1.30.0", file="onnxruntime/__init__.py")
    install(tmp_path, "onnxruntime-genai", "0.9.0", top_level="onnxruntime_genai")
    install(tmp_path, "numpy", "2.0.0", file="numpy/__init__.py")
    packages = runtime_packages(lambda: metadata.distributions(path=[str(tmp_path)]))
    assert packages == [("onnxruntime", "1.32.0"), ("onnxruntime-gpu", "1.30.0")]
    assert package_problem(packages) == (
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.30.0 are both installed; the one installed last "
        "wins and the GPU is silently not used: uninstall both, then install one"
    )


def test_one_package_is_no_problem_and_none_is():
    assert package_problem([("onnxruntime-gpu", "1.30.0")]) == ""
    assert "no package" in package_problem([])
    three = [("onnxruntime", "1"), ("onnxruntime-gpu", "2"), ("onnxruntime-openvino", "3")]
    assert "onnxruntime 1, onnxruntime-gpu 2 and onnxruntime-openvino 3" in package_problem(three)


def test_this_environment_has_one_package():
    assert len(runtime_packages()) == 1


def test_importing_the_module_loads_no_runtime():
    code = "import sys, agent.engine.placement as p; p.package_problem(); "
    code += "print('onnxruntime' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
