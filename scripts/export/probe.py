"""FunASR's own inference on clips, and what its layers see meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agent.types import SAMPLE_RATE, Int16

from .side_files import ExportError

Clips = Sequence[Int16]
"""Speech at 16 kHz."""
_HOP = 9600
_CHUNK = [5, 10, 5]


def funasr_result(model: Any, clip: Int16, **options: Any) -> list[dict[str, Any]]:
    """FunASR's own result for one clip, streamed in hops of 600 ms where the model streams."""
    speech = torch.from_numpy(clip.astype(np.float32) / 32768)
    if type(model.model).__name__ != "ParaformerStreaming":
        return list(model.generate(input=speech, **options))
    cache: dict[str, Any] = {}
    results: list[dict[str, Any]] = []
    for first in range(0, len(speech), _HOP):
        results += model.generate(
            input=speech[first : first + _HOP],
            cache=cache,
            is_final=first + _HOP >= len(speech),
            chunk_size=_CHUNK,
        )
    return results


@contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into `layer` while the block runs, one [n, features] each time."""
    seen: list[Tensor] = []

    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach().reshape(-1, inputs[0].shape[-1]).clone())

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def inputs_of(layer: nn.Module, runs: Callable[[], None]) -> Tensor:
    """All of what `runs` sends into the layer, [n, features]. Raises ExportError for too little."""
    with recorded(layer) as seen, torch.no_grad():
        runs()
    if sum(map(len, seen)) < 8:
        raise ExportError("the audio is too short to set weights from; give more with --audio")
    return torch.cat(seen)


def seconds(clips: Clips) -> float:
    """Length of all clips."""
    return sum(map(len, clips)) / SAMPLE_RATE
