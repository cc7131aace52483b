"""Run the stages: corpus, human, features, vad, offline, online, bundle, clips."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import (
    asr,
    bundle,
    clipset,
    corpus,
    export,
    features,
    human,
    invented,
    others,
    public,
    training,
    vad,
    vad_data,
    warm,
)

STAGES = ["corpus", "human", "features", "vad", "offline", "online", "bundle", "clips"]
MINUTES = {"vad": 25.0, "offline": 105.0, "online": 95.0}
SHARES = {"offline": 0.7, "online": 0.7}
"""Of the trained weights in the mean with those that `--start` went on from."""
KINDS = ["vad", "offline", "online"]


class Run:
    """One run of the recipe; every stage skips what is already there."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Take paths and the training times from the command line."""
        self.work: Path = args.work
        self.data: Path | None = args.data if args.data.is_dir() else None
        self.more: Path | None = args.more
        self.teacher: Path | None = args.teacher if args.teacher.is_dir() else None
        self.models: Path = args.models
        self.clips: Path = args.clips
        self.start: Path | None = args.start
        self.seed: int = args.seed
        self.minutes = MINUTES | dict(args.minutes or [])
        self.processes: int = args.processes
        self.workers: int = args.workers
        self.corpus_folder = self.work / "corpus"
        self.feature_folder = self.work / "features"
        if self.data is None:
            print(f"{args.data} is not there: no human speech, no recorded noise", flush=True)
        if self.teacher is None:
            print(f"{args.teacher} is not there: the detector learns from energies", flush=True)

    def corpus(self) -> None:
        """Synthesise the speech."""
        corpus.build(self.corpus_folder, self.seed, processes=self.processes)
        others.build(self.corpus_folder, self.seed, processes=self.processes)

    def human(self) -> None:
        """Read the human recordings; let more people say them."""
        human.build(self.data, self.corpus_folder, self.seed)
        public.build(self.more, self.data, self.corpus_folder, self.seed)
        invented.build(self.corpus_folder, self.seed, processes=self.processes)

    def features(self) -> None:
        """Augment and compute the features; compose the detector's scenes."""
        features.build(
            self.corpus_folder, self.feature_folder, self.data, self.seed, self.processes
        )
        vad_data.build(
            self.corpus_folder,
            self.work / "vad.npz",
            self.data,
            self.teacher,
            self.seed,
            self.processes,
        )

    def vad(self) -> None:
        """Train the detector."""
        out = self.work / "vad.pt"
        if not out.exists():
            cmvn = self.work / "vad-cmvn.npz"
            vad.train(self.work / "vad.npz", cmvn, out, self.minutes["vad"], self.seed)

    def _train_asr(self, kind: str, init: Path | None) -> None:
        out = self.work / f"{kind}.pt"
        if out.exists():
            return
        names = sorted(p.stem for p in self.feature_folder.glob("train-*.jsonl"))
        sets = [self.feature_folder / name for name in names]
        cmvn = self.work / "asr-cmvn.npz"
        if self.start is not None:
            init = self.start / f"builtin-{kind}"
            if not cmvn.exists():
                warm.write_statistics(init, cmvn)
        minutes = self.minutes[kind]
        training.train(kind, sets, cmvn, out, minutes, self.seed, init, self.workers)

    def offline(self) -> None:
        """Train the whole-utterance recogniser."""
        self._train_asr("offline", None)

    def online(self) -> None:
        """Train the streaming recogniser from the offline weights."""
        self._train_asr("online", self.work / "offline.pt")

    def _evaluate(self, kind: str, folder: Path, suffix: str, out: Path) -> None:
        """Score in a process of its own, so that ONNX Runtime and torch do not share threads."""
        command = [sys.executable, "-m", f"{__package__}.evaluate", kind, str(folder)]
        command += ["--work", str(self.work), "--suffix", suffix, "--out", str(out)]
        if self.data is not None:
            command += ["--data", str(self.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def bundle(self) -> None:
        """Export, score and publish every model whose weights are there."""
        for kind in KINDS:
            weights = self.work / f"{kind}.pt"
            if not weights.exists():
                continue
            folder = self.work / "export" / kind
            if kind == "vad":
                export.export_vad(weights, self.work / "vad-cmvn.npz", folder)
            else:
                if self.start is not None:
                    mixed = self.work / f"{kind}-mixed.pt"
                    old = self.start / f"builtin-{kind}"
                    warm.mix(asr.build_model(kind), weights, old, SHARES[kind], mixed)
                    weights = mixed
                export.export_asr(kind, weights, self.work / "asr-cmvn.npz", folder)
            scores = {s: self.work / f"score-{kind}{s}.json" for s in ("_quant", "")}
            for suffix, out in scores.items():
                self._evaluate(kind, folder, suffix, out)
            # The detector's first variant is fp32: its card reports that one.
            first, second = ("", "_quant") if kind == "vad" else ("_quant", "")
            revision = f"seed {self.seed}, {self.minutes[kind]:g} min"
            if self.start is not None and kind != "vad":
                revision += " from the set before"
            bundle.bundle(kind, folder, self.models, revision, scores[first], scores[second])

    def clips_stage(self) -> None:
        """Write the test clips."""
        clipset.write_clips(self.corpus_folder, self.models, self.clips)


def _minutes(text: str) -> tuple[str, float]:
    kind, _, value = text.partition("=")
    if kind not in MINUTES or not value:
        raise argparse.ArgumentTypeError(f"not of the form {'|'.join(MINUTES)}=NUMBER: {text}")
    return kind, float(value)


def main() -> None:
    """Parse the arguments and run the stages in order."""
    parser = argparse.ArgumentParser(prog="scripts/train/make", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/train"), help="working folder")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where models land")
    parser.add_argument("--clips", type=Path, default=Path("tests/data/clips"))
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/audio"), help="human speech and noise"
    )
    parser.add_argument(
        "--more", type=Path, help="folder of public sets with more human speech (public.py)"
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        default=Path("../shared/models/fsmn-vad"),
        help="folder of the published FSMN-VAD",
    )
    parser.add_argument(
        "--start", type=Path, help="folder of models to go on from (models), not from nothing"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="for synthesis and features")
    parser.add_argument("--workers", type=int, default=1, help="training processes")
    parser.add_argument(
        "--minutes", type=_minutes, action="append", metavar="MODEL=MIN", help="training time"
    )
    parser.add_argument("--stage", action="append", choices=STAGES, help="only these stages")
    args = parser.parse_args()
    run = Run(args)
    for stage in STAGES:
        if args.stage is None or stage in args.stage:
            print(f"== {stage}", flush=True)
            getattr(run, "clips_stage" if stage == "clips" else stage)()


if __name__ == "__main__":
    main()
