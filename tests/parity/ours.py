"""The agent's own families, loaded from an exported folder, with what their graphs put out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.engine import ort
from agent.engine.base import EngineSettings
from agent.engine.families import load_model

FP32 = ""
INT8 = "_quant"
"""Suffixes of the graphs' file names, as FunASR's exporter writes them."""


@dataclass(frozen=True)
class Exported:
    """An exported folder and one form of its graphs (`agent.engine.base.ModelFiles`)."""

    folder: Path
    form: str = FP32

    @property
    def model_id(self) -> str:
        return self.folder.name

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def graph(self, role: str) -> bytes:
        return self.read(f"{role}{self.form}.onnx")

    def load(self, family: str, threads: int) -> Any:
        """The model of a family."""
        return load_model(family, self, EngineSettings(threads=threads))


@dataclass
class Outputs:
    """What graphs put out, run by run."""

    runs: list[dict[str, ort.Array]] = field(default_factory=list)

    def take(self, name: str) -> list[ort.Array]:
        """The outputs of that name since the last call."""
        found = [run[name] for run in self.runs if name in run]
        self.runs.clear()
        return found


@contextmanager
def watched() -> Iterator[Outputs]:
    """Note the outputs of every graph while the block runs."""
    seen = Outputs()
    original = ort.Graph.run

    def run(self: ort.Graph, feeds: Mapping[str, ort.Array]) -> dict[str, ort.Array]:
        outputs = original(self, feeds)
        seen.runs.append(outputs)
        return outputs

    ort.Graph.run = run  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        ort.Graph.run = original  # type: ignore[method-assign]
