"""What a model family gets to load itself from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


class ModelFiles(Protocol):
    """Verified bytes of one model; nothing is read from disk a second time."""

    @property
    def model_id(self) -> str:
        """Id of the model, for messages."""

    def read(self, name: str) -> bytes:
        """Bytes of a side file such as `tokens.json`. Raises ManifestError when not listed."""

    def has(self, name: str) -> bool:
        """Whether the manifest lists `name`."""

    def graph(self, role: str) -> bytes:
        """Bytes of a graph of the chosen variant: `model`, `decoder`, `model_eb`."""


@runtime_checkable
class Tunable(Protocol):
    """A model whose settings can be changed while it serves."""

    def tuned(self, overrides: Mapping[str, Any]) -> Any:
        """The same model with other settings; streams that are open keep theirs. Raises ModelError
        for settings that do not fit it."""


@dataclass(frozen=True)
class GpuSettings:
    """How a GPU is used."""

    device: int = 0
    """Which one, as CUDA counts them."""
    arena_mb: int = 0
    """Most that each graph may take for what it computes, weights included; 0: no limit."""


FIRST_GPU = GpuSettings()
"""The first one, without a limit."""


@dataclass(frozen=True)
class EngineSettings:
    """How to run a model on this box."""

    threads: int = 1
    """ONNX Runtime intra-op threads."""
    provider: str = "cpu"
    """`cpu` or `cuda`."""
    profile_dir: str = ""
    """Folder that each graph writes a profile of its nodes to when it is dropped; empty: none."""
    low_memory: bool = False
    """Keep only the weights between runs, at the price of a few per cent of time."""
    gpu: GpuSettings = FIRST_GPU
    vad: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the VAD's own post-processing parameters, by FunASR's names."""
