"""Training material of the voice activity detector: composed scenes with frame labels."""

from __future__ import annotations

import itertools
import multiprocessing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import augment
from .clips import RATE, Audio, ClipSet
from .features import MEL, fbank, lfr

LFR_M, LFR_N = 5, 1
HOP, WINDOW = RATE // 100, RATE // 40
SCENE_SECONDS = 10.0
SCENES = 4000
AT_ONCE = 0.25
"""Share of the scenes with speech that begin with it."""
HUMAN = ("dsp", "fsdd", "commands", "cmn", "prompts")
"""How the names of recorded voices begin; all others are synthetic."""
_CLOSE_FRAMES = 20  # Pauses below 200 ms inside an utterance count as speech.

Labels = NDArray[np.float32]


def stack(mel: np.ndarray) -> np.ndarray:
    """Stack frames as the detector's front end does (5 frames, hop 1)."""
    return lfr(mel, LFR_M, LFR_N)


class Teacher:
    """The published FSMN-VAD (whole-file graph); gives a speech probability a frame."""

    def __init__(self, folder: Path) -> None:
        """Load offline.onnx and am.mvn from `folder`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "offline.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._shift, self._scale = read_mvn(folder / "am.mvn")

    def __call__(self, audio: Audio) -> Labels:
        """Return the probability of speech for every frame."""
        features = (stack(fbank(audio)) + self._shift) * self._scale
        feed = {self._input: features[None].astype(np.float32)}
        scores = self._session.run(None, feed)[0]
        return 1.0 - scores[0, :, 0]


def read_mvn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read shift and scale from Kaldi's text form."""
    vectors = [
        np.array(line.split("[")[1].split("]")[0].split(), dtype=np.float32)
        for line in path.read_text().splitlines()
        if line.startswith("<LearnRateCoef>")
    ]
    return vectors[0], vectors[1]


def _frames(audio: Audio) -> int:
    return max(0, 1 + (len(audio) - WINDOW) // HOP)


def _energy_labels(audio: Audio) -> Labels:
    """Speech where a clean clip's energy is within 38 dB of its loudest frame."""
    count = _frames(audio)
    windows = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP][:count]
    energy = 10 * np.log10((windows**2).mean(axis=1) + 1e-12)
    return (energy > energy.max() - 38).astype(np.float32)


def close_gaps(labels: Labels, gap: int = _CLOSE_FRAMES) -> Labels:
    """Fill pauses of fewer than `gap` frames between speech."""
    marked = np.flatnonzero(labels > 0.5)
    closed = labels.copy()
    for left, right in itertools.pairwise(marked):
        if right - left < gap:
            closed[left:right] = 1.0
    return closed


def _floor(rng: np.random.Generator, length: int) -> Audio:
    """A microphone's own hiss, far below speech: the teacher never met digital silence."""
    return (rng.standard_normal(length) * 10 ** (-72 / 20)).astype(np.float32)


def target(
    speech: Audio, known: Labels, teacher: Teacher | None, rng: np.random.Generator
) -> Labels:
    """The probability of speech for every frame of a scene without its noise.

    The teacher's own where it is there, so that both open and close at the same frames; frames
    that are `known` to hold clean synthetic speech are speech whatever it thinks of such voices.
    """
    if teacher is None or not speech.any():
        return known
    loud = speech * (0.5 / float(np.abs(speech).max()))
    return np.maximum(teacher(loud + _floor(rng, len(loud))), known)


def scene(
    sets: list[ClipSet], rng: np.random.Generator, pool: augment.NoisePool, teacher: Teacher | None
) -> tuple[np.ndarray, Labels]:
    """Compose speech at random levels over silence or noise; return mel energies and targets."""
    length = int(SCENE_SECONDS * RATE)
    speech = np.zeros(length, np.float32)
    known = np.zeros(_frames(speech), np.float32)
    with_speech = rng.random() < 0.65
    peak = float(np.exp(rng.uniform(np.log(0.008), np.log(0.95))))
    # A recording may begin in the middle of a word.
    position = 0 if rng.random() < AT_ONCE else int(rng.uniform(0.0, 2.5) * RATE)
    while with_speech and position < length - RATE // 2:
        source = sets[rng.integers(len(sets))]
        index = int(rng.integers(len(source)))
        human = source.clips[index].voice.startswith(HUMAN)
        clip = augment.change_speed(source.audio(index), rng.uniform(0.85, 1.2))
        clip = clip[: length - position]
        if len(clip) < 2 * WINDOW:
            break
        start = position // HOP
        if teacher is None or not human:
            marks = close_gaps(_energy_labels(clip))
            room = known[start : start + len(marks)]
            room[:] = np.maximum(room, marks[: len(room)])
        clip = augment.colour(clip, rng, pool)[: length - position]
        clip = clip * (peak * rng.uniform(0.5, 1.0) / (np.abs(clip).max() + 1e-6))
        speech[position : position + len(clip)] += clip
        gap = rng.uniform(0.1, 0.6) if rng.random() < 0.5 else rng.uniform(0.6, 2.5)
        position += len(clip) + int(gap * RATE)
    if not with_speech:
        return fbank(augment.nothing(rng, pool, SCENE_SECONDS)), known
    labels = target(speech, known, teacher, rng)
    draw = rng.random()
    if draw < 0.65:
        marked = np.repeat(labels > 0.5, HOP).nonzero()[0]
        active = speech[marked] if marked.size else speech
        noise = pool.draw(rng, length)
        level = (active.std() + 1e-6) * 10 ** (-rng.uniform(3, 45) / 20)
        speech = speech + noise * level
    elif draw < 0.9:
        speech = speech + _floor(rng, length) * 10 ** (rng.uniform(-12, 12) / 20)
    return fbank(np.clip(speech, -1.0, 1.0)), labels


_shared: dict[str, object] = {}


def _job(item: tuple[int, int]) -> tuple[np.ndarray, Labels]:
    index, seed = item
    if "teacher" not in _shared:
        folder = _shared["teacher-folder"]
        _shared["teacher"] = Teacher(folder) if isinstance(folder, Path) else None
    rng = np.random.default_rng([seed, index])
    return scene(_shared["sets"], rng, _shared["pool"], _shared["teacher"])  # type: ignore[arg-type]


def build(
    corpus: Path, out: Path, data: Path | None, teacher: Path | None, seed: int, processes: int = 2
) -> None:
    """Compose the scenes and store them as out.npz (mel [n, frames, 80], labels [n, frames])."""
    if out.exists():
        return
    parts = sorted(path.stem for path in corpus.glob("train-*.jsonl"))
    # A scene in two is of people.
    people = ["human-train"] + ["more-train"] * (len(parts) - 1)
    names = parts + people * (teacher is not None)
    stored = {n: ClipSet(corpus / n) for n in {*names} if (corpus / f"{n}.jsonl").exists()}
    _shared["sets"] = [stored[name] for name in names if name in stored]
    _shared["pool"] = augment.NoisePool(data)
    _shared["teacher-folder"] = teacher
    with multiprocessing.get_context("fork").Pool(processes) as workers:
        jobs = [(index, seed) for index in range(SCENES)]
        scenes = list(workers.imap(_job, jobs, chunksize=16))
    frames = min(len(labels) for _, labels in scenes)
    mel = np.zeros((len(scenes), frames, MEL), np.float16)
    labels = np.zeros((len(scenes), frames), np.float16)
    for index, (energies, marks) in enumerate(scenes):
        mel[index], labels[index] = energies[:frames], marks[:frames]
    np.savez(out, mel=mel, labels=labels)
    share = float(labels.astype(np.float32).mean())
    print(f"vad scenes: {len(scenes)}, speech in {share:.0%} of the frames", flush=True)
