"""The recognisers' training loop, over one or two processes."""

from __future__ import annotations

import math
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from . import asr, warm
from .batches import Batches, Normaliser
from .features import NOISE, FeatureSet
from .windows import windowed_loss

WARMUP_STEPS = 100
PEAK_RATE = {"offline": 6e-4, "online": 5e-4}
SAVE_S = 90.0
HOLD_UNTIL = 0.3
"""Share of the time after which the rate falls, and features vary less."""
LATE_STRENGTH = 0.5
SHORT_UNTIL = 0.2  # Share of the time that only sees utterances of up to four tokens.


def _without_dropout(model: torch.nn.Module) -> None:
    """Switch dropout off: these trainings are too short to overfit."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout_rate", None), float):
            module.dropout_rate = 0.0  # type: ignore[assignment]


def _share(model: torch.nn.Module, done: float, workers: int) -> float:
    """Average gradients (and the clock) over the workers; return the common clock."""
    if workers == 1:
        return done
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([done])])
    dist.all_reduce(flat)
    flat /= workers
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return float(flat[-1])


class Loop:
    """One worker's training loop."""

    def __init__(self, kind: str, batches: Batches, minutes: float, rank: int, workers: int):
        """Build the model; `minutes` is wall clock."""
        self.kind, self.batches, self.minutes = kind, batches, minutes
        self.rank, self.workers = rank, workers
        self.model = asr.build_model(kind)
        _without_dropout(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = self.seen = 0
        self.begun = time.monotonic()
        self.saved = self.begun
        self._log: list[tuple[float, ...]] = []

    def _set_rate(self, done: float) -> None:
        falling = min(1.0, max(0.0, done - HOLD_UNTIL) / (1 - HOLD_UNTIL))
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * falling))
        rate = PEAK_RATE[self.kind] * math.sqrt(self.workers)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * min(1.0, self.step / WARMUP_STEPS) * cosine

    def _update(self, batch: list[tuple[int, int]], done: float) -> float:
        """One step; return the common clock."""
        self._set_rate(done)
        tensors = self.batches.tensors(batch)
        if self.kind == "online":
            loss, stats = windowed_loss(self.model, *tensors)
        else:
            loss, stats, _ = self.model(*tensors)
        self.optimiser.zero_grad(set_to_none=False)
        loss.backward()
        done = _share(self.model, done, self.workers)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        else:
            print(f"{self.kind}: step {self.step}: not finite, skipped", flush=True)
        self.step, self.seen = self.step + 1, self.seen + len(batch) * self.workers
        ctc = stats.get("loss_ctc")
        values = (stats["loss_pre"], stats["acc"], math.nan if ctc is None else ctc)
        self._log.append((float(loss.detach()), *map(float, values)))
        return done

    def _report(self, done: float) -> None:
        mean = np.mean(self._log, axis=0)
        self._log = []
        print(
            f"{self.kind} step {self.step} {done:.1%} seen {self.seen} loss {mean[0]:.3f}"
            f" pre {mean[1]:.3f} acc {mean[2]:.3f} ctc {mean[3]:.2f}",
            flush=True,
        )

    def save(self, path: Path) -> None:
        """Write what a later run goes on from."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seen": self.seen,
            "spent": time.monotonic() - self.begun,
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seen = state["step"], state["seen"]
        self.begun = time.monotonic() - state["spent"]

    def _done(self) -> float:
        return (time.monotonic() - self.begun) / (self.minutes * 60)

    def run(self, out: Path, fresh: bool) -> None:
        """Train until the time is over; rank 0 writes `out` (and `.part` on the way)."""
        self.model.train()
        done = self._done()
        while done < 1.0:
            # Short utterances first: the plateau at the start is left sooner.
            short = fresh and done < SHORT_UNTIL
            self.batches.mask_rate = 0.0 if short else 0.3
            for batch in self.batches.epoch(4 if short else None):
                self.batches.vary.strength = 1.0 if done < HOLD_UNTIL else LATE_STRENGTH
                done = self._update(batch, self._done())
                if self.rank == 0 and self.step % 100 == 0:
                    self._report(done)
                if self.rank == 0 and time.monotonic() - self.saved > SAVE_S:
                    self.saved = time.monotonic()
                    self.save(out.with_suffix(".part"))
                if done >= 1.0 or (short and done >= SHORT_UNTIL):
                    break
        if self.rank == 0:
            torch.save(self.model.state_dict(), out)
            print(f"{self.kind}: {self.step} steps, {self.seen} utterances", flush=True)


def _worker(
    rank: int,
    workers: int,
    meeting: str,
    kind: str,
    sets: list[Path],
    cmvn: Path,
    out: Path,
    minutes: float,
    seed: int,
    init: Path | None,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("medium")
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers
        )
    features = [FeatureSet(path) for path in sets]
    noise = [stored for path, stored in zip(sets, features, strict=True) if path.name == NOISE]
    batches = Batches(features, Normaliser(cmvn), seed + rank, noise[0] if noise else None)
    loop = Loop(kind, batches, minutes, rank, workers)
    if init is not None and init.is_dir():
        loop.model.load_state_dict(warm.state(loop.model, init))
        loop.model.ctc_weight = loop.model.sampling_ratio = 0.0
    elif init is not None:
        loop.model.load_state_dict(torch.load(init))
    if out.with_suffix(".part").exists():
        loop.resume(out.with_suffix(".part"))
    random.seed(seed + rank)
    torch.manual_seed(seed + rank)
    loop.run(out, fresh=init is None)
    if workers > 1:
        dist.destroy_process_group()


def train(
    kind: str,
    sets: list[Path],
    cmvn: Path,
    out: Path,
    minutes: float,
    seed: int,
    init: Path | None = None,
    workers: int = 1,
) -> None:
    """Train `kind` on stored feature sets with one or more processes of one thread each.

    `init`: weights of a training before (.pt), or a published folder; None starts at random.
    """
    Normaliser(cmvn, [FeatureSet(path) for path in sets])
    with tempfile.TemporaryDirectory() as folder:
        arguments = (workers, f"{folder}/meeting", kind, sets, cmvn, out, minutes, seed, init)
        if workers == 1:
            _worker(0, *arguments)
        else:
            mp.spawn(_worker, arguments, nprocs=workers)
