"""Score exported folders on the kept-out sets; results go to a JSON file."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from . import augment
from .clips import RATE, ClipSet, read_audio
from .decode import Detector, Offline, Online
from .features import FeatureSet, fbank
from .vocabulary import TOKENS

ASR_SETS = ["zh", "zh-noisy", "en", "en-noisy", "slt", "fsdd", "fsdd-strings", "dspspeech"]
EMPTY_SETS = ["nothing", "foreign"]
FRAME = 0.01


def edit_distance(hypothesis: Sequence, reference: Sequence) -> int:
    """Levenshtein distance of two token sequences."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(hypothesis, 1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (got != wanted)),
            )
    return row[-1]


def _kinds(corpus: Path, name: str, count: int) -> list[str]:
    path = corpus / name.removesuffix("-noisy")
    if not path.with_suffix(".jsonl").exists():
        return ["all"] * count
    return [clip.kind for clip in ClipSet(path).clips]


def score_asr(
    decode: Callable[[np.ndarray], list[int]], features: Path, corpus: Path, limit: int = 10**9
) -> dict:
    """Token error rates (per cent) by set and kind, false text on non-speech, and speed."""
    result: dict = {}
    spent = heard = 0.0
    for name in ASR_SETS:
        if not (features / f"{name}.jsonl").exists():
            continue
        stored = FeatureSet(features / name)
        kinds = _kinds(corpus, name, len(stored))
        errors: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        right = total = 0
        for index in range(min(limit, len(stored))):
            mel, wanted = stored.mel(index), stored.ids[index]
            begin = time.perf_counter()
            got = decode(mel)
            spent += time.perf_counter() - begin
            heard += len(mel) * FRAME
            for kind in {"all", kinds[index]}:
                errors[kind][0] += edit_distance(got, wanted)
                errors[kind][1] += len(wanted)
            right += got == wanted
            total += 1
        rates = {kind: round(100 * e / max(1, n), 2) for kind, (e, n) in sorted(errors.items())}
        result[name] = rates | {"exact": round(100 * right / max(1, total), 1)}
    for name in EMPTY_SETS:
        if (features / f"{name}.jsonl").exists():
            stored = FeatureSet(features / name)
            texts = [decode(stored.mel(i)) for i in range(min(limit, len(stored)))]
            result[name] = {
                "clips": len(texts),
                "with text": sum(bool(t) for t in texts),
                "tokens": sum(map(len, texts)),
            }
    result["white noise and silence"] = _noise_check(lambda mel: len(decode(mel)))
    result["real-time factor"] = round(spent / max(heard, 1e-9), 5)
    return result


def _noise_check(count: Callable[[np.ndarray], int]) -> dict:
    """Count what digital silence and white noise at many levels give, 8 s each."""
    rng = np.random.default_rng(5)
    found = {"silence": count(fbank(np.zeros(8 * RATE, np.float32)))}
    for level in range(-90, 1, 10):
        noise = rng.standard_normal(8 * RATE) * 10 ** (level / 20) * 0.3
        found[f"{level} dB"] = count(fbank(np.clip(noise, -1, 1).astype(np.float32)))
    return found


def score_vad(folder: Path, features: Path, corpus: Path, data: Path | None, suffix: str) -> dict:
    """False alarms on non-speech, and whether kept-out speech is found as one segment."""
    detector = Detector(folder, suffix)
    result: dict = {"white noise and silence": _noise_check(lambda m: len(detector.segments(m)))}
    stored = FeatureSet(features / "nothing")
    alarms = sum(bool(detector.segments(stored.mel(i))) for i in range(len(stored)))
    result["nothing"] = {"clips": len(stored), "with segment": alarms}
    if data is not None:
        pool = augment.NoisePool(data, held_out=True)
        alarms = sum(bool(detector.segments(fbank(noise))) for noise in pool.noises)
        result["kept-out noise recordings"] = {"clips": len(pool.noises), "with segment": alarms}
    rng = np.random.default_rng(6)
    for name in ("zh", "en", "slt", "fsdd-strings", "dspspeech"):
        if not (corpus / f"{name}.jsonl").exists():
            continue
        clips = ClipSet(corpus / name)
        found = whole = 0
        for index in range(0, len(clips), 2):
            audio = np.pad(clips.audio(index), (RATE, RATE + RATE // 2))
            level = 10 ** (rng.uniform(-30, 0) / 20)
            audio = audio * level + rng.standard_normal(len(audio)) * 0.3 * level * 10**-2
            segments = detector.segments(fbank(audio.astype(np.float32)))
            found += bool(segments)
            begin, end = 1000, len(audio) / RATE * 1000 - 1500
            whole += bool(segments) and segments[0][0] <= begin and segments[-1][1] >= end - 200
        result[name] = {"clips": len(range(0, len(clips), 2)), "found": found, "whole": whole}
    example = data / "samples" / "vad_example.wav" if data is not None else None
    if example is not None and example.exists():
        wanted = json.loads(example.with_suffix(".segments.json").read_text())
        length = int(read_audio(example).size / RATE * 1000)
        marks = [np.zeros(length // 10 + 1, bool) for _ in range(2)]
        found_here = detector.segments(fbank(read_audio(example)))
        for mark, spans in zip(marks, (wanted, found_here), strict=True):
            for begin, end in spans:
                mark[begin // 10 : end // 10] = True
        agreement = float((marks[0] == marks[1]).mean())
        result["agreement with the published detector on vad_example"] = round(agreement, 3)
    return result


def main() -> None:
    """Score one exported folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["offline", "online", "vad"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=Path("var/train"))
    parser.add_argument("--data", type=Path, default=Path("../shared/audio"))
    parser.add_argument("--suffix", default="_quant", help="'' for the fp32 graphs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--limit", type=int, default=10**9, help="utterances a set")
    parser.add_argument("--show", type=int, default=0, help="print some decoded examples")
    args = parser.parse_args()
    features, corpus = args.work / "features", args.work / "corpus"
    if args.kind == "vad":
        data = args.data if args.data.is_dir() else None
        result = score_vad(args.folder, features, corpus, data, args.suffix)
    else:
        decode = (Offline if args.kind == "offline" else Online)(args.folder, args.suffix)
        for name in ("zh", "en") if args.show else ():
            stored = FeatureSet(features / name)
            for index in range(args.show):
                got = [TOKENS[i] for i in decode(stored.mel(index))]
                print(name, "wanted", *(TOKENS[i] for i in stored.ids[index]), "| got", *got)
        result = score_asr(decode, features, corpus, args.limit)
    text = json.dumps(result, ensure_ascii=False, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
