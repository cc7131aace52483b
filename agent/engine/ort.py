"""ONNX Runtime: the one module that imports it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The runtime decides once, while it is loaded, whether it reports to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["ORT_TELEMETRY_DISABLED"] = "1"

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from agent.engine.base import FIRST_GPU, EngineSettings, GpuSettings, ModelFiles
from agent.engine.cuda_options import cuda_options
from agent.errors import CompatibilityError, InferenceError

Array = NDArray[Any]
_FATAL_ONLY = 4
"""Errors reach the caller as exceptions; the runtime need not print them too."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LARGE_INPUT = 1 << 15
"""Values, as 3.5 s of features have: what a smaller run leaves in the heap is not worth a look."""
_METADATA_FIELD, _KEY_FIELD, _VALUE_FIELD = 0x72, 0x0A, 0x12
"""Protobuf tags: ModelProto.metadata_props (14), key (1) and value (2) of its entries."""


@dataclass(frozen=True)
class Tensor:
    """Name, element type (as ONNX Runtime writes it) and shape of an input or output."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]
    """A fixed size, or the name of a size that may vary."""

    def size(self, axis: int) -> int:
        """The fixed size of an axis. Raises CompatibilityError when it varies."""
        size = self.shape[axis] if axis < len(self.shape) else None
        if not isinstance(size, int):
            raise CompatibilityError(f"{self.name} has no fixed size on axis {axis}: {self.shape}")
        return size


@dataclass(frozen=True)
class TensorSpec:
    """What a family needs of an input or output."""

    type: str | None = None
    """Element type such as `float` or `int32`; None: any."""
    shape: tuple[int | None, ...] | None = None
    """Sizes in order, None for one that may vary; None as a whole: any number of axes."""

    def mismatch(self, tensor: Tensor) -> str:
        """Why `tensor` does not fit; empty when it does. A size that the graph leaves open fits."""
        if self.type is not None and tensor.type != f"tensor({self.type})":
            return f"is {tensor.type}, must be tensor({self.type})"
        if self.shape is None:
            return ""
        pairs = zip(self.shape, tensor.shape, strict=False)
        same_rank = len(self.shape) == len(tensor.shape)
        if same_rank and all(w is None or not isinstance(f, int) or w == f for w, f in pairs):
            return ""
        found = [size if isinstance(size, int) else "?" for size in tensor.shape]
        wanted = ["?" if size is None else size for size in self.shape]
        return f"has the shape {_shape(found)}, must be {_shape(wanted)}"


Specs = Mapping[str, TensorSpec]
"""Inputs or outputs that a family needs, by name."""


class Graph:
    """A loaded graph. Safe to run from several threads."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        name: str,
        *,
        low_memory: bool = False,
        shrinks: str = "",
    ) -> None:
        """`shrinks`: the arena (`gpu:0`) that gives back what `low_memory` does not keep; empty:
        the session has none."""
        self._session = session
        self._low_memory = low_memory
        self._shrinking = _shrinking(shrinks) if shrinks and low_memory else None
        self._told: Callable[[Mapping[str, Array]], None] | None = None
        self.name = name
        self.inputs = {t.name: t for t in map(_tensor, session.get_inputs())}
        self.outputs = {t.name: t for t in map(_tensor, session.get_outputs())}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Raises InferenceError."""
        if self._told is not None:
            self._told(feeds)
        frees = self._low_memory and max(v.size for v in feeds.values()) > _LARGE_INPUT
        try:
            values = self._session.run(None, dict(feeds), self._shrinking if frees else None)
        except Exception as error:
            raise InferenceError(_first_line(error), file=self.name) from error
        finally:
            if frees:
                release_memory()
        return dict(zip(self.outputs, values, strict=True))

    def watch(self, told: Callable[[Mapping[str, Array]], None] | None) -> None:
        """Have `told` hear the inputs of every run from now on; None ends it."""
        self._told = told

    def require(self, inputs: Specs, outputs: Specs) -> None:
        """Raises CompatibilityError naming everything that is missing or of another kind."""
        problems: list[str] = []
        for kind, wanted, found in (
            ("input", inputs, self.inputs),
            ("output", outputs, self.outputs),
        ):
            missing = [name for name in wanted if name not in found]
            if missing:
                problems.append(
                    f"the graph has no {kind} {', '.join(missing)}; it has {', '.join(found)}"
                )
            for name, spec in wanted.items():
                if name in found and (reason := spec.mismatch(found[name])):
                    problems.append(f"the {kind} {name} {reason}")
        if problems:
            raise CompatibilityError("; ".join(problems), file=self.name)


def open_model_graph(files: ModelFiles, role: str, settings: EngineSettings) -> Graph:
    """Load the graph `role` of a model as the settings say. Raises CompatibilityError."""
    return open_graph(
        files.graph(role),
        name=f"{files.model_id}/{role}",
        threads=settings.threads,
        provider=settings.provider,
        profile_dir=settings.profile_dir,
        low_memory=settings.low_memory,
        gpu=settings.gpu,
    )


def open_graph(
    data: bytes,
    *,
    name: str,
    threads: int,
    provider: str = "cpu",
    profile_dir: str = "",
    low_memory: bool = False,
    gpu: GpuSettings = FIRST_GPU,
) -> Graph:
    """Load a graph from the bytes that were verified.

    `threads` are the intra-op threads of this graph's own pool; they do not spin while idle.
    With `profile_dir` the graph writes a profile there when it is dropped. `low_memory` keeps
    only the weights between runs, which costs a few per cent of time. What `write_optimised` made
    for this runtime is not optimised again. Raises CompatibilityError when the runtime refuses
    the graph.
    """
    options = _options(threads, low_memory=low_memory)
    if profile_dir:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(profile_dir, name.replace("/", "_"))
    if provider == "cpu" and data.endswith(optimised_mark()):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _session(data, options, provider, name, gpu)
    # The wrapper keeps the serialised graph in case it has to make the session again, which
    # doubles the memory of a large model for good; this session is never made again.
    session._model_bytes = b""
    release_memory()
    arena = f"gpu:{gpu.device}" if provider == "cuda" else ""
    return Graph(session, name, low_memory=low_memory, shrinks=arena)


def write_optimised(data: bytes, path: Path, *, name: str) -> None:
    """Write the graph to `path` as the runtime optimises it for this CPU.

    It fits only this CPU and this version of the runtime; with `optimised_mark` behind it
    `open_graph` knows it. Raises CompatibilityError.
    """
    options = _options(threads=1)
    options.optimized_model_filepath = str(path)
    # What is stored must not depend on how this session would lay its weights out.
    options.add_session_config_entry("session.disable_prepacking", "1")
    _session(data, options, "cpu", name)
    if not path.is_file():
        raise CompatibilityError("ONNX Runtime wrote no optimised graph", file=name)


def optimised_mark() -> bytes:
    """What follows the bytes of a graph that this runtime has optimised: an entry of its
    metadata, which every reader of ONNX takes for a part of the graph."""
    key, value = b"funasr-agent.optimised-by", runtime_version().encode()
    entry = bytes([_KEY_FIELD, len(key)]) + key + bytes([_VALUE_FIELD, len(value)]) + value
    return bytes([_METADATA_FIELD, len(entry)]) + entry


def release_memory() -> None:
    """Give freed memory back to the system, which glibc alone does only at the heap's end."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _options(threads: int, *, low_memory: bool = False) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = not low_memory
    return options


def _shrinking(arena: str) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
    return options


def _session(
    data: bytes,
    options: onnxruntime.SessionOptions,
    provider: str,
    name: str,
    gpu: GpuSettings = FIRST_GPU,
) -> onnxruntime.InferenceSession:
    if provider not in _PROVIDERS:
        raise CompatibilityError(
            f"provider {provider!r} is unknown; known are {', '.join(_PROVIDERS)}", file=name
        )
    wanted = _PROVIDERS[provider]
    if provider == "cuda" and 0 < gpu.arena_mb << 20 < len(data):
        # The runtime subtracts the weights from its limit, and below zero it is none.
        raise CompatibilityError(
            f"has {len(data) >> 20} MB, and inference.gpu_memory_mb leaves each graph "
            f"{gpu.arena_mb} MB on the GPU; raise it, or use a smaller model",
            file=name,
        )
    if provider == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        # CUDA and cuDNN that came as Python packages lie where the loader does not look.
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            data,
            options,
            providers=[(wanted, provider_options(provider, gpu))],
            enable_fallback=0,
        )
    except Exception as error:
        raise CompatibilityError(
            f"ONNX Runtime {runtime_version()} can't load it: {_first_line(error)}", file=name
        ) from error
    if wanted not in session.get_providers():
        raise CompatibilityError(
            f"ONNX Runtime put it on {', '.join(session.get_providers())} instead of {wanted}: "
            "a library that the provider needs is missing or does not fit; "
            "`funasr-agent doctor` says which",
            file=name,
        )
    return session


def provider_options(provider: str, gpu: GpuSettings = FIRST_GPU) -> dict[str, str]:
    """What a session on `provider` is opened with."""
    return cuda_options(gpu, runtime_version()) if provider == "cuda" else {}


def runtime_version() -> str:
    """Version of ONNX Runtime."""
    return str(onnxruntime.__version__)


def available_providers() -> list[str]:
    """Providers that this build of the runtime lists (it may still fail to run them)."""
    return [str(provider) for provider in onnxruntime.get_available_providers()]


def int32(*values: int) -> NDArray[np.int32]:
    """A vector of lengths, as FunASR's graphs take them."""
    return np.array(values, np.int32)


def require_finite(values: Array, name: str, *, file: str) -> None:
    """Raises InferenceError when an output holds NaN, as graphs with damaged weights give."""
    if values.size and np.isnan(values.max()):
        raise InferenceError(
            f"its output {name} is not a number (NaN): the weights are damaged, or this provider "
            "computes them wrong; install the model again",
            file=file,
        )


def _shape(sizes: list[Any]) -> str:
    return "[" + ",".join(str(size) for size in sizes) + "]"


def _tensor(node: Any) -> Tensor:
    return Tensor(node.name, node.type, tuple(node.shape))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)
