"""Random inputs for a FunASR graph of which only the file is at hand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from agent.engine.ort import Array, Tensor
from agent.errors import CompatibilityError

_FRAME_MS = 60
"""One low-frame-rate frame of FunASR's front end."""
_LARGEST_ID = 100
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def random_feeds(ports: Iterable[Tensor], seconds: float, *, seed: int = 0) -> dict[str, Array]:
    """For every input an array of its fixed sizes; open ones are 1 for the batch and elsewhere what
    `seconds` of audio have. Lengths are those of the arrays. Raises CompatibilityError for an
    input of another kind.
    """
    frames = max(1, round(seconds * 1000 / _FRAME_MS))
    rng = np.random.default_rng(seed)
    return {port.name: _filled(port, frames, rng) for port in ports}


def _filled(port: Tensor, frames: int, rng: np.random.Generator) -> Array:
    if port.type not in _TYPES:
        known = ", ".join(_TYPES)
        raise CompatibilityError(f"the input {port.name} is {port.type}, none of {known}")
    kind = _TYPES[port.type]
    sizes = [
        size if isinstance(size, int) and size > 0 else 1 if axis == 0 else frames
        for axis, size in enumerate(port.shape)
    ]
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(sizes).astype(kind)
    if "len" in port.name:
        return np.full(sizes, frames, kind)
    if len(sizes) < 2:  # SenseVoice's language and text normalisation: its first few values
        return np.zeros(sizes, kind)
    return rng.integers(1, _LARGEST_ID, sizes).astype(kind)
