"""What this build of ONNX Runtime knows, and which execution provider really runs a graph.

Importing this module loads no runtime. Probing loads the GPU's libraries, and a broken one can
end the process: probe in a child process.
"""

from __future__ import annotations

import base64
import ctypes
import importlib.metadata
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engine.base import FIRST_GPU
from agent.engine.cuda_options import cuda_options
from agent.errors import CompatibilityError, InferenceError

Array = NDArray[Any]
PROVIDER_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DEFAULT_DOMAIN = "ai.onnx"
"""The domain that graphs also write as an empty name."""

_SHORT_NAMES = {name: short for short, name in PROVIDER_NAMES.items()}
_FATAL_ONLY = 4
_HEAVY = re.compile(r"MatMul|Gemm|Conv|Quantize|Attention|Norm|Softmax|LSTM|GRU|Einsum")
"""Operators that compute, as opposed to those that only work out shapes and indices."""
_PLAIN_WORDS = (
    ("no kernel image", "this build of ONNX Runtime has no code for this GPU"),
    ("driver version is insufficient", "the GPU's driver is older than the CUDA of this build"),
    ("no CUDA-capable device", "the driver sees no GPU"),
    ("out of memory", "the GPU's memory is full"),
)
_LIBRARY_ADVICE = "install the CUDA and cuDNN that this ONNX Runtime was built for"
_PROBE_GRAPH = base64.b64decode(
    "CAc62QEKGAoBeAoEdGFwcxIBYxoEY29udiIEQ29udgoVCgFjCgNvbmUSAWEaA2FkZCIDQWRkChsKAWEKA21peBIB"
    "eRoGbWF0bXVsIgZNYXRNdWwSBXByb2JlKhgIAQgBCAIQASIIAACAPwAAgD9CBHRhcHMqDwgBEAEiBAAAgD9CA29u"
    "ZSolCAMIAhABIhgAAIA/AAAAAAAAAAAAAIA/AACAPwAAgD9CA21peFoXCgF4EhIKEAgBEgwKAggBCgIIAQoCCARi"
    "FwoBeRISChAIARIMCgIIAQoCCAEKAggCQgQKABAN"
)
"""y f32[1,1,2] = (convolution of x f32[1,1,4] with [1,1], plus 1) x [[1,0],[0,1],[1,1]]: on a GPU
this takes cuDNN, a kernel of the runtime's own and cuBLAS."""
_PROBE_INPUT = np.array([[[1, 2, 3, 4]]], np.float32)
_PROBE_OUTPUT = np.array([[[12, 14]]], np.float32)


@dataclass(frozen=True)
class ProviderState:
    """Whether a provider can be used on this box."""

    provider: str
    """`cpu` or `cuda`."""
    listed: bool
    """Whether the installed runtime was built with it."""
    works: bool
    """Whether a small graph really ran on it, with the right result."""
    reason: str = ""
    """Why not, in plain words."""


@dataclass(frozen=True)
class Placement:
    """Where the nodes of a graph ran."""

    nodes: Mapping[str, int]
    """Provider (`cpu`, `cuda`, others by the runtime's own name) -> nodes that ran on it."""
    cpu_counts: Mapping[str, int] = field(default_factory=dict)
    """Operator -> nodes that ran on the CPU, most first."""

    @property
    def cpu_ops(self) -> tuple[str, ...]:
        """Operators on the CPU with their counts (`DynamicQuantizeLinear (47)`), most first."""
        return tuple(f"{name} ({count})" for name, count in self.cpu_counts.items())

    @property
    def heavy_cpu_ops(self) -> tuple[str, ...]:
        """Names of those that compute; a GPU provider leaves shape arithmetic to the CPU."""
        return tuple(name for name in self.cpu_counts if _HEAVY.search(name))


@dataclass(frozen=True)
class RuntimeOperators:
    """What a build of ONNX Runtime registers; empty mappings where the build does not tell."""

    version: str
    since: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    """Domain -> operator -> opsets in which it was defined or redefined, ascending."""
    max_opset: Mapping[str, int] = field(default_factory=dict)
    """Domain -> newest opset."""
    kernels: Mapping[str, Mapping[tuple[str, str], tuple[tuple[int, int], ...]]] = field(
        default_factory=dict
    )
    """Provider (`cpu`, ...) -> domain and operator -> first and last opset of each kernel."""

    @property
    def known(self) -> bool:
        """Whether the build told its operators; if not, leave the judgement to the session."""
        return bool(self.since)

    def definition(self, domain: str, operator: str, opset: int) -> int | None:
        """The opset that defines `operator` for a graph of `opset`; None when none does."""
        versions = self.since.get(domain, {}).get(operator, ())
        return max((version for version in versions if version <= opset), default=None)

    def has_kernel(self, provider: str, domain: str, operator: str, since: int) -> bool:
        """Whether `provider` runs the definition `since`, for some element types at least."""
        spans = self.kernels.get(provider, {}).get((domain, operator), ())
        return any(first <= since <= last for first, last in spans)


def probe_provider(provider: str, *, runtime: Any = None) -> ProviderState:
    """Run a small graph on `provider` alone and look where it really ran. Never raises, but a
    broken GPU library can end the process. `runtime` is the module onnxruntime or a fake of it.
    """
    name = PROVIDER_NAMES.get(provider, provider)
    try:
        runtime = runtime or _onnxruntime()
        listed = [str(item) for item in runtime.get_available_providers()]
    except Exception as error:  # noqa: BLE001 - a broken runtime fails in any way
        return ProviderState(provider, False, False, f"ONNX Runtime can't be used: {_plain(error)}")
    if name not in listed:
        library = name.removesuffix("ExecutionProvider")
        reason = f"the installed ONNX Runtime {runtime.__version__} is a build without {library}"
        return ProviderState(provider, False, False, reason)
    try:
        run = _profiled_run(
            runtime, _PROBE_GRAPH, name, {"x": _PROBE_INPUT}, threads=1, optimised=False
        )
    except Exception as error:  # noqa: BLE001 - as above
        return ProviderState(provider, True, False, _plain(error))
    return ProviderState(provider, True, not (reason := _fault(run, name, runtime)), reason)


def profile_placement(
    data: bytes, *, provider: str, feeds: Mapping[str, Array], threads: int
) -> Placement:
    """Run a graph once and count its nodes by provider.

    Raises CompatibilityError when the runtime refuses the graph, InferenceError when the run fails.
    """
    name = PROVIDER_NAMES.get(provider, provider)
    run = _profiled_run(_onnxruntime(), data, name, feeds, threads=threads, optimised=True)
    return run.placement


def placement_of_profiles(paths: Iterable[Path]) -> Placement:
    """Nodes by provider from profiles that ONNX Runtime wrote, one of each graph.

    A node counts once however often it ran. A profile that can't be parsed is passed over: the
    runtime writes names of nodes into it as they are.
    """
    nodes: Counter[str] = Counter()
    on_cpu: Counter[str] = Counter()
    for path in paths:
        try:
            events = json.loads(path.read_bytes())
        except ValueError:
            continue
        found = {
            (event["name"], args.get("node_index"), args.get("op_name", "?"), args["provider"])
            for event in events
            if event.get("cat") == "Node" and "provider" in (args := event.get("args", {}))
        }
        for _, _, operator, provider in found:
            short = _SHORT_NAMES.get(provider, provider)
            nodes[short] += 1
            if short == "cpu":
                on_cpu[operator] += 1
    return Placement(dict(nodes.most_common()), dict(on_cpu.most_common()))


def runtime_operators(*, kernels: bool = False, runtime: Any = None) -> RuntimeOperators:
    """What the installed runtime registers; takes some milliseconds.

    `kernels`: also which provider has which kernel. To answer, the runtime starts every provider
    that it was built with and ends the process where one can't start, so this is asked only when
    all their libraries can be loaded; do it in a child process.
    """
    runtime = runtime or _onnxruntime()
    state = runtime.capi.onnxruntime_pybind11_state
    since: dict[str, dict[str, tuple[int, ...]]] = {}
    if not hasattr(state, "get_all_operator_schema"):
        return RuntimeOperators(str(runtime.__version__))
    for schema in state.get_all_operator_schema():
        known = since.setdefault(schema.domain or DEFAULT_DOMAIN, {})
        versions = {*known.get(schema.name, ()), int(schema.since_version)}
        known[schema.name] = tuple(sorted(versions))
    newest = {
        domain: max(versions[-1] for versions in known.values()) for domain, known in since.items()
    }
    spans = _kernels(state) if kernels and not _unloadable(runtime, "*") else {}
    return RuntimeOperators(str(runtime.__version__), since, newest, spans)


def runtime_packages(
    distributions: Callable[[], Iterable[Any]] = importlib.metadata.distributions,
) -> list[tuple[str, str]]:
    """Name and version of every installed package that provides `onnxruntime`; imports none."""
    found = {
        (str(dist.metadata["Name"]), str(dist.version))
        for dist in distributions()
        if _provides(dist, "onnxruntime")
    }
    return sorted(found)


def package_problem(packages: Iterable[tuple[str, str]] | None = None) -> str:
    """What is wrong with the installed packages (default: `runtime_packages()`); empty: nothing."""
    installed = list(runtime_packages() if packages is None else packages)
    if len(installed) < 2:
        return "" if installed else "no package that provides onnxruntime is installed"
    names = [f"{name} {version}" for name, version in installed]
    return (
        f"{', '.join(names[:-1])} and {names[-1]} are {'both' if len(names) == 2 else 'all'} "
        "installed; the one installed last wins and the GPU is silently not used: uninstall "
        f"{'both' if len(names) == 2 else 'all of them'}, then install one"
    )


@dataclass(frozen=True)
class _Run:
    providers: list[str]
    """Of the session."""
    outputs: list[Array]
    placement: Placement


def _provides(dist: Any, package: str) -> bool:
    stated = dist.read_text("top_level.txt")
    if stated is not None:
        return package in stated.split()
    return any(str(path) == f"{package}/__init__.py" for path in dist.files or ())


def _onnxruntime() -> Any:
    import agent.engine.ort  # noqa: F401, I001 - it sets the telemetry switch before the import
    import onnxruntime

    return onnxruntime


def _profiled_run(
    runtime: Any,
    data: bytes,
    provider_name: str,
    feeds: Mapping[str, Array],
    *,
    threads: int,
    optimised: bool,
) -> _Run:
    """One run in a session of its own. Raises CompatibilityError, InferenceError."""
    with tempfile.TemporaryDirectory(prefix="funasr-agent-profile-") as folder:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        if not optimised:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        on_gpu = provider_name == PROVIDER_NAMES["cuda"]
        more = cuda_options(FIRST_GPU, str(runtime.__version__)) if on_gpu else {}
        try:
            session = runtime.InferenceSession(
                data, options, providers=[(provider_name, more)], enable_fallback=0
            )
        except Exception as error:
            raise CompatibilityError(
                f"ONNX Runtime {runtime.__version__} can't load it: {_first_line(error)}"
            ) from error
        try:
            outputs = session.run(None, dict(feeds))
        except Exception as error:
            raise InferenceError(_first_line(error)) from error
        profile = Path(session.end_profiling())
        return _Run(session.get_providers(), outputs, placement_of_profiles([profile]))


def _fault(run: _Run, name: str, runtime: Any) -> str:
    """What is wrong with a probe's run on the provider `name`; empty when nothing is."""
    short = _SHORT_NAMES.get(name, name)
    if name not in run.providers:
        library = name.removesuffix("ExecutionProvider").lower()
        why = _unloadable(runtime, library)
        if why:
            return f"a library of it can't be loaded ({why}); {_LIBRARY_ADVICE}"
        return "it does not start, and the CPU is silently used instead"
    if elsewhere := {key: count for key, count in run.placement.nodes.items() if key != short}:
        others = ", ".join(f"{count} on {key}" for key, count in elsewhere.items())
        return f"nodes that were meant for it silently ran elsewhere: {others}"
    if not run.placement.nodes:
        return "the runtime does not say where the nodes ran"
    if not np.array_equal(run.outputs[0], _PROBE_OUTPUT):
        return f"it computes wrong: {run.outputs[0].tolist()} instead of {_PROBE_OUTPUT.tolist()}"
    return ""


def _unloadable(runtime: Any, library: str) -> str:
    """Why a provider's library (`cuda`, `*` for each) can't be loaded; empty when it can.

    The runtime itself says that only on standard error.
    """
    folder = Path(runtime.__file__).parent / "capi"
    shared = folder / "libonnxruntime_providers_shared.so"
    others = sorted(folder.glob(f"libonnxruntime_providers_{library}.so"))
    for path in [shared, *(path for path in others if path != shared)]:
        if not path.exists():
            continue
        try:
            # The others take the symbols of the shared one.
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL if path == shared else ctypes.RTLD_LOCAL)
        except OSError as error:
            return str(error)
    return ""


def _kernels(state: Any) -> dict[str, dict[tuple[str, str], tuple[tuple[int, int], ...]]]:
    spans: dict[str, dict[tuple[str, str], tuple[tuple[int, int], ...]]] = {}
    for kernel in state.get_all_opkernel_def() if hasattr(state, "get_all_opkernel_def") else ():
        of_provider = spans.setdefault(_SHORT_NAMES.get(kernel.provider, kernel.provider), {})
        key = (kernel.domain or DEFAULT_DOMAIN, kernel.op_name)
        first, last = kernel.version_range
        of_provider[key] = (*of_provider.get(key, ()), (int(first), int(last)))
    return spans


def _plain(error: Exception) -> str:
    text = str(error.__cause__ or error)
    for needle, words in _PLAIN_WORDS:
        if needle.lower() in text.lower():
            return f"{words} ({_first_line(error)})"
    if found := re.search(r"(lib[\w.+-]+\.so[.\d]*):? cannot open", text):
        return f"{found[1]} can't be loaded; {_LIBRARY_ADVICE}"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or repr(error)
