"""ONNX Runtime: the one module that imports it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The runtime decides once, while it is loaded, whether it reports to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["ORT_TELEMETRY_DISABLED"] = "1"

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from agent.errors import CompatibilityError, InferenceError

Array = NDArray[Any]
_FATAL_ONLY = 4
"""Errors reach the caller as exceptions; the runtime need not print them too."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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


class Graph:
    """A loaded graph. Safe to run from several threads."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._session = session
        self.name = name
        self.inputs = {t.name: t for t in map(_tensor, session.get_inputs())}
        self.outputs = {t.name: t for t in map(_tensor, session.get_outputs())}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Raises InferenceError."""
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:
            raise InferenceError(_first_line(error), file=self.name) from error
        return dict(zip(self.outputs, values, strict=True))

    def require(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Raises CompatibilityError naming the inputs and outputs that are not there."""
        for kind, wanted, found in (
            ("input", inputs, self.inputs),
            ("output", outputs, self.outputs),
        ):
            missing = [name for name in wanted if name not in found]
            if missing:
                raise CompatibilityError(
                    f"the graph has no {kind} {', '.join(missing)}; it has {', '.join(found)}",
                    file=self.name,
                )


def open_graph(data: bytes, *, name: str, threads: int, provider: str = "cpu") -> Graph:
    """Load a graph from the bytes that were verified.

    `threads` are the intra-op threads of this graph's own pool; they do not spin while idle.
    Raises CompatibilityError when the runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if provider not in _PROVIDERS:
        raise CompatibilityError(
            f"provider {provider!r} is unknown; known are {', '.join(_PROVIDERS)}", file=name
        )
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[_PROVIDERS[provider]])
    except Exception as error:
        raise CompatibilityError(
            f"ONNX Runtime {runtime_version()} can't load it: {_first_line(error)}", file=name
        ) from error
    return Graph(session, name)


def runtime_version() -> str:
    """Version of ONNX Runtime."""
    return str(onnxruntime.__version__)


def available_providers() -> list[str]:
    """Providers that this build of the runtime lists (it may still fail to run them)."""
    return [str(provider) for provider in onnxruntime.get_available_providers()]


def int32(*values: int) -> NDArray[np.int32]:
    """A vector of lengths, as FunASR's graphs take them."""
    return np.array(values, np.int32)


def _tensor(node: Any) -> Tensor:
    return Tensor(node.name, node.type, tuple(node.shape))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)
