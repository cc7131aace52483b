"""The steps of an export: checkpoint, graphs, variants, comparison, manifest, report."""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import SAMPLE_RATE, Int16

from .architectures import ARCHITECTURES
from .checkpoint import WEIGHTS, make_checkpoint
from .compare import distance, run_variant, variant_folder, variety
from .folder import copy_side_files, write_manifest
from .graphs import export_graphs, open_checkpoint, quiet
from .probe import funasr_result, seconds
from .side_files import ExportError
from .speech import read_speech, read_texts
from .variants import SUFFIXES, describe_graph, make_variant

REPORT = "report.json"
_MOST_SPEECH_S = 200
"""That random weights are set from."""
_MOST_COMPARED_S = 60
_GOLDEN_S = 10
_QUIET_S = 1.5
_EMBEDDER = "model_eb"


def export(args: argparse.Namespace) -> None:
    """Make the folder `args.out`, complete or not at all.

    Raises ExportError and what reading or writing files raises.
    """
    out: Path = args.out
    if out.exists() and any(out.iterdir()):
        raise ExportError(f"{out} is not empty; remove it or name another folder")
    if args.model not in ARCHITECTURES and not (Path(args.model) / "config.yaml").is_file():
        names = ", ".join(ARCHITECTURES)
        raise ExportError(f"{args.model} is no folder with a config.yaml, and none of {names}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        made.mkdir()
        _Export(args, made).run()
        if out.exists():
            out.rmdir()
        made.rename(out)
    print(f"{out}: done", flush=True)


class _Export:
    """One export into the folder `made`."""

    def __init__(self, args: argparse.Namespace, made: Path) -> None:
        self.args = args
        self.made = made
        self.variants: list[str] = args.variants
        self.seeded = args.model in ARCHITECTURES
        self.clips = read_speech(args.audio, _MOST_SPEECH_S)
        self.texts = read_texts(args.audio)
        self.started = time.perf_counter()

    def run(self) -> None:
        checkpoint = self._checkpoint()
        golden, recorded = self._graphs(checkpoint)
        copy_side_files(checkpoint, self.made)
        if self.seeded and self.args.checkpoint is None:
            (checkpoint / WEIGHTS).unlink()
        roles = sorted(p.stem for p in self.made.glob("*.onnx") if "_quant" not in p.stem)
        roles.sort(key="model".__ne__)
        graphs = {role: describe_graph(self.made / f"{role}.onnx") for role in roles}
        for variant in self.variants:
            if variant in ("int8-s8", "fp16"):
                make_variant(self.made, [r for r in roles if r != _EMBEDDER], variant)
                self._say(f"{variant} made")
        report = self._compared(roles)
        self._drop_unwanted()
        entry = write_manifest(
            self.made,
            self.args.id or (self.args.model if self.seeded else None),
            roles,
            self.variants,
            golden,
            seed=self.args.seed if self.seeded else None,
            recorded=recorded,
            threads=self.args.threads,
        )
        sizes = {path.name: path.stat().st_size for path in sorted(self.made.glob("*.onnx"))}
        report |= {"golden": entry, "graphs": graphs, "bytes": sizes}
        report["seconds"] = round(time.perf_counter() - self.started)
        text = json.dumps(report, ensure_ascii=False, indent=1)
        (self.made / REPORT).write_text(text + "\n", "utf-8")
        print(text, flush=True)

    def _checkpoint(self) -> Path:
        if not self.seeded:
            return Path(self.args.model)
        folder = self.args.checkpoint or self.made.parent / "checkpoint"
        architecture = ARCHITECTURES[self.args.model]
        make_checkpoint(architecture, folder, self.clips, self.texts, self.args)
        self._say(f"weights of seed {self.args.seed} in {folder}")
        return Path(folder)

    def _graphs(self, checkpoint: Path) -> tuple[Int16, str | None]:
        """Export; returns the golden clip and what funasr itself makes of it."""
        model = open_checkpoint(checkpoint, self.args.threads)
        kind = type(model.model).__name__
        export_graphs(model, self.made, int8="int8" in self.variants)
        self._say("graphs exported")
        clip = self.clips[0][: _GOLDEN_S * SAMPLE_RATE]
        recorded = None
        if kind == "FsmnVADStreaming":
            rest = np.zeros(int(_QUIET_S * SAMPLE_RATE), np.int16)
            clip = np.concatenate([rest, clip, rest])
        elif not kind.startswith("CTTransformer"):
            with quiet():
                recorded = "".join(part.get("text", "") for part in funasr_result(model, clip))
        del model
        gc.collect()
        return clip, recorded

    def _compared(self, roles: Sequence[str]) -> dict[str, Any]:
        clips = _first(self.clips, _MOST_COMPARED_S)

        def outcome(variant: str) -> Any:
            files = variant_folder(self.made, roles, variant)
            return run_variant(files, clips, self.texts, self.args.threads)

        fp32 = outcome("fp32")
        against: dict[str, Any] = {}
        for variant in self.variants:
            if variant != "fp32":
                against[variant] = distance(outcome(variant), fp32)
                self._say(f"{variant} against fp32: {against[variant]}")
        return {
            "model": str(self.args.model),
            "seed": self.args.seed if self.seeded else None,
            "small": bool(self.args.small and self.seeded),
            "set_from_audio_s": round(seconds(self.clips), 1) if self.seeded else None,
            "compared_on_audio_s": round(seconds(clips), 1),
            "clips": len(clips),
            "fp32": variety(fp32, seconds(clips)),
            "against_fp32": against,
        }

    def _drop_unwanted(self) -> None:
        """Graphs of forms that were only needed on the way; the hotword encoder stays."""
        longest_first = sorted(SUFFIXES, key=lambda name: -len(SUFFIXES[name]))
        for path in self.made.glob("*.onnx"):
            variant = next(name for name in longest_first if path.stem.endswith(SUFFIXES[name]))
            if variant not in self.variants and path.stem != _EMBEDDER:
                path.unlink()

    def _say(self, text: str) -> None:
        print(f"{time.perf_counter() - self.started:6.0f} s  {text}", flush=True)


def _first(clips: Sequence[Int16], most_s: float) -> list[Int16]:
    """Clips up to about `most_s` seconds."""
    taken: list[Int16] = []
    for clip in clips:
        if seconds(taken) >= most_s:
            break
        taken.append(clip)
    return taken
