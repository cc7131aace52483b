"""FunASR in torch, opened from a checkpoint folder, with the numbers inside.

Import it only where torch and funasr are there: it takes ten seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from funasr import AutoModel

from agent.engine.frontend import Frontend
from agent.types import Float32

_FULL_SCALE = 32768


@dataclass(frozen=True)
class TorchReading:
    """What a Paraformer read in one clip."""

    logits: Float32
    """[L, V], log-softmax, one row for each token that the predictor counted."""
    result: dict[str, Any]
    """As `generate` gives it."""
    us_alphas: Any = None
    us_peaks: Any = None
    """Tensors [1, 3T] of a model with times."""


class Original:
    """A checkpoint as AutoModel opens it, on the CPU, without a look at the network."""

    def __init__(self, folder: Path, threads: int) -> None:
        with quiet():
            self.auto = AutoModel(
                model=str(folder.resolve()),
                device="cpu",
                ncpu=threads,
                disable_update=True,
                disable_pbar=True,
                disable_log=True,
            )
        self.model = self.auto.model
        self.frontend = self.auto.kwargs.get("frontend")
        if self.frontend is not None:
            self.frontend.dither = 0.0

    @property
    def parameters(self) -> int:
        """How many weights the model has."""
        return sum(p.numel() for p in self.model.parameters())

    def generate(self, data: Any, **more: Any) -> list[dict[str, Any]]:
        """FunASR's own entry."""
        with quiet(), torch.no_grad():
            return list(self.auto.generate(data, **more))

    def read(self, wave: Float32, features: Frontend | None = None, **more: Any) -> TorchReading:
        """Let a Paraformer read a clip; with `features` on those instead of FunASR's own."""
        seen: dict[str, Any] = {}
        if features is not None:
            more["frontend"] = AgentFeatures(features, self.frontend)
        with self._noted(seen):
            (result,) = self.generate(wave, **more)
        return TorchReading(
            seen["logits"][0, : seen["count"]].numpy(),
            result,
            seen.get("us_alphas"),
            seen.get("us_peaks"),
        )

    @contextmanager
    def _noted(self, seen: dict[str, Any]) -> Iterator[None]:
        """Keep what the decoder and the predictor of times put out."""

        def decoded(arguments: tuple[Any, ...], output: Any) -> None:
            logits = output[0] if isinstance(output, tuple) else output
            # FunASR divides the alphas in place later on.
            seen.update(logits=logits.detach().clone(), count=int(arguments[3][0]))

        def timed(_: tuple[Any, ...], output: Any) -> None:
            seen.update(us_alphas=output[2].clone(), us_peaks=output[3].clone())

        hooks = {
            "_seaco_decode_with_ASF": decoded,
            "cal_decoder_with_predictor": decoded,
            "calc_predictor_timestamp": timed,
        }
        with told(self.model, hooks):
            yield


class AgentFeatures:
    """The agent's features in the place of FunASR's frontend."""

    def __init__(self, frontend: Frontend, original: Any) -> None:
        self._frontend = frontend
        self.fs = original.fs
        self.frame_shift = original.frame_shift
        self.lfr_n = original.lfr_n
        self.cmvn_file = original.cmvn_file

    def __call__(self, data: torch.Tensor, lengths: Any, **_: Any) -> tuple[Any, Any]:
        samples = np.round(data[0].numpy() * _FULL_SCALE).astype(np.int16)
        features = self._frontend.whole(samples)
        return torch.from_numpy(features)[None], torch.tensor([len(features)])


@contextmanager
def told(owner: Any, hooks: dict[str, Callable[[tuple[Any, ...], Any], None]]) -> Iterator[None]:
    """While the block runs, tell of every call of these methods: its arguments and its output."""
    present = {name: hook for name, hook in hooks.items() if hasattr(owner, name)}
    for name, hook in present.items():
        setattr(owner, name, _telling(getattr(owner, name), hook))
    try:
        yield
    finally:
        for name in present:
            delattr(owner, name)


def _telling(
    method: Callable[..., Any], hook: Callable[[tuple[Any, ...], Any], None]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        output = method(*args, **kwargs)
        hook((*args, *kwargs.values()), output)
        return output

    return call


@contextmanager
def quiet() -> Iterator[None]:
    """Keep funasr's notices off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
