"""Features as FunASR's front end makes them, and their store on disk."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from . import augment
from .clips import RATE, Audio, ClipSet, read_audio
from .corpus import PARTS
from .vocabulary import TOKEN_ID

MEL = 80
LFR_M, LFR_N = 7, 6
# Augmented with sound; what else changes is drawn while training (variation.py).
COPIES = {f"train-{part}": 1 for part in range(PARTS)} | {
    "human-train": 2,
    "more-train": 1,
    "others-train": 1,
    "invented-train": 2,
}
NOTHING, NOISE = 6000, "train-nothing"
JOINED = 0.12
"""Share of the training utterances that have a second one behind a pause."""
LONGEST = 8 * RATE
TEST_SETS = ["zh", "en", "slt", "fsdd", "fsdd-strings", "dspspeech"]

Matrix = NDArray[np.float32]


def fbank(audio: Audio) -> Matrix:
    """Log mel energies of 16-bit audio: hamming, 25/10 ms, 80 bins, no dither."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = MEL
    options.energy_floor = 0
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(RATE, np.clip(np.round(audio * 32768), -32768, 32767))
    count = extractor.num_frames_ready
    return np.stack([extractor.get_frame(i) for i in range(count)]).astype(np.float32)


def lfr(mel: Matrix, m: int = LFR_M, n: int = LFR_N) -> Matrix:
    """Stack m frames every n, the first one repeated (m - 1) / 2 times on the left."""
    count = -(-len(mel) // n)
    padded = np.concatenate([np.repeat(mel[:1], (m - 1) // 2, axis=0), mel])
    missing = (count - 1) * n + m - len(padded)
    if missing > 0:
        padded = np.concatenate([padded, np.repeat(padded[-1:], missing, axis=0)])
    width = mel.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (m, width))[: count * n : n, 0]
    return windows[:count].reshape(count, m * width)


class FeatureSet:
    """Stored mel features with token ids."""

    def __init__(self, path: Path) -> None:
        """Open the set that `FeatureWriter` made at `path` (without suffix)."""
        rows = [json.loads(line) for line in path.with_suffix(".jsonl").open(encoding="utf-8")]
        self._mel = np.memmap(path.with_suffix(".f16"), dtype=np.float16, mode="r").reshape(-1, MEL)
        self.starts = [row[0] for row in rows]
        self.lengths = [row[1] for row in rows]
        self.ids: list[list[int]] = [row[2] for row in rows]

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.ids)

    def mel(self, index: int) -> Matrix:
        """Return an utterance's mel energies."""
        start = self.starts[index]
        return self._mel[start : start + self.lengths[index]].astype(np.float32)


def write_features(path: Path, items: Iterable[tuple[Matrix, list[int]]]) -> None:
    """Store utterances at `path` (without suffix)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = 0
    temporary = path.with_suffix(".part")
    with path.with_suffix(".f16").open("wb") as data, temporary.open("w") as index:
        for mel, ids in items:
            # Digital silence gives log(eps), well inside half precision's range.
            data.write(mel.astype(np.float16).tobytes())
            index.write(json.dumps([start, len(mel), ids]) + "\n")
            start += len(mel)
    temporary.rename(path.with_suffix(".jsonl"))


# Set in the parent before the worker processes are forked.
_shared: dict[str, object] = {}


def _train_job(item: tuple[int, int]) -> tuple[Matrix, list[int]]:
    index, seed = item
    clips: ClipSet = _shared["clips"]  # type: ignore[assignment]
    pool: augment.NoisePool = _shared["pool"]  # type: ignore[assignment]
    rng = np.random.default_rng([seed, index])
    second = int(rng.integers(len(clips)))
    speech, other = clips.audio(index), clips.audio(second)
    clip, more = clips.clips[index], clips.clips[second]
    tokens = list(clip.tokens)
    alike = clip.lang == more.lang and bool(clip.tokens) == bool(more.tokens)
    if alike and rng.random() < JOINED / 0.4 and len(speech) + len(other) < LONGEST:
        pause = np.zeros(int(rng.uniform(0.12, 0.7) * RATE), np.float32)
        speech = np.concatenate([speech, pause, other * rng.uniform(0.5, 1.0)])
        tokens += more.tokens
    audio = augment.speech(speech, rng, pool, other)
    return fbank(audio), [TOKEN_ID[token] for token in tokens]


def _nothing_job(item: tuple[int, int]) -> tuple[Matrix, list[int]]:
    index, seed = item
    rng = np.random.default_rng([seed, index])
    return fbank(augment.nothing(rng, _shared["pool"])), []  # type: ignore[arg-type]


def _test_job(item: tuple[int, int]) -> tuple[Matrix, list[int]]:
    index, seed = item
    clips: ClipSet = _shared["clips"]  # type: ignore[assignment]
    rng = np.random.default_rng([seed, index])
    audio = np.pad(clips.audio(index), (RATE // 5, RATE // 3))
    if _shared["noisy"]:
        audio = augment.add_noise(audio, rng, _shared["pool"], 10.0)  # type: ignore[arg-type]
        audio = audio / max(1.0, float(np.abs(audio).max()))
    return fbank(audio), [TOKEN_ID[token] for token in clips.clips[index].tokens]


def _store(path: Path, job: Callable, jobs: list, processes: int) -> None:
    if path.with_suffix(".jsonl").exists():
        return
    with multiprocessing.get_context("fork").Pool(processes) as workers:
        write_features(path, workers.imap(job, jobs, chunksize=32))
    print(f"features {path.name}: {len(jobs)} utterances", flush=True)


def build(corpus: Path, folder: Path, data: Path | None, seed: int, processes: int = 2) -> None:
    """Make the features of every test and training set in `corpus`."""
    _shared["pool"] = augment.NoisePool(data, held_out=True)
    for name in TEST_SETS:
        if not (corpus / f"{name}.jsonl").exists():
            continue
        _shared["clips"] = clips = ClipSet(corpus / name)
        jobs = [(index, seed) for index in range(len(clips))]
        for noisy in (False, True) if name in ("zh", "en") else (False,):
            _shared["noisy"] = noisy
            _store(folder / f"{name}{'-noisy' * noisy}", _test_job, jobs, processes)
    _store(folder / "nothing", _nothing_job, [(i, seed + 99) for i in range(300)], processes)
    if data is not None and (data / "aishell").is_dir():
        files = sorted((data / "aishell").glob("*.flac"))
        if not (folder / "foreign.jsonl").exists():
            write_features(folder / "foreign", [(fbank(read_audio(f)), []) for f in files])
    _shared["pool"] = augment.NoisePool(data)
    jobs = [(index, seed + 1) for index in range(NOTHING)]
    _store(folder / NOISE, _nothing_job, jobs, processes)
    for copy in range(max(COPIES.values())):
        for name in (name for name, copies in COPIES.items() if copy < copies):
            if (corpus / f"{name}.jsonl").exists():
                _shared["clips"] = clips = ClipSet(corpus / name)
                jobs = [(index, seed + 10 + copy) for index in range(len(clips))]
                _store(folder / f"train-{name}-{copy}", _train_job, jobs, processes)
