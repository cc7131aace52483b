"""Score the embedded models on everything that is there and print the table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from agent.types import Int16, ModelSet, RecognitionMode
from scripts.train import augment, vocabulary
from scripts.train.clips import RATE
from scripts.train.evaluate import edit_distance

from . import commands, pipeline, sets
from .sets import Item

COLUMNS = {"offline": RecognitionMode.OFFLINE, "streaming": RecognitionMode.ONLINE}


@dataclass
class Row:
    """One line of the table."""

    title: str
    offline: str
    streaming: str
    limit: str = ""


def errors(models: ModelSet, items: list[Item], mode: RecognitionMode) -> dict[str, float]:
    """Token errors in per cent, in all and by kind."""
    wrong: dict[str, list[int]] = {}
    for item in items:
        got = vocabulary.tokens_of(pipeline.hear(models, item.samples, mode).text)
        distance = edit_distance(got, item.tokens)
        for kind in {"all", item.kind}:
            count = wrong.setdefault(kind, [0, 0])
            count[0] += distance
            count[1] += len(item.tokens)
    return {kind: round(100 * a / max(1, b), 2) for kind, (a, b) in wrong.items()}


class Table:
    """Rows as they come, printed as they come."""

    def __init__(self, models: ModelSet, limit: int) -> None:
        self._models, self._limit = models, limit
        self.results: dict[str, Any] = {}
        print("| set | offline pass | streaming pass | limit |\n|---|---|---|---|", flush=True)

    def row(self, row: Row) -> None:
        """Print one line."""
        print(f"| {row.title} | {row.offline} | {row.streaming} | {row.limit} |", flush=True)

    def words(self, name: str, title: str, items: Iterable[Item], limit: str = "") -> None:
        """Token errors of a set in both passes; kinds in a line below."""
        taken = list(islice(items, self._limit))
        found = {name: errors(self._models, taken, mode) for name, mode in COLUMNS.items()}
        self.results[name] = found
        shown = {c: f"{rates.get('all', 0):.1f} %" for c, rates in found.items()}
        self.row(Row(f"{title} ({len(taken)})", shown["offline"], shown["streaming"], limit))
        for kind in sorted(found["offline"]):
            if kind != "all":
                one = [f"{found[c][kind]:.1f} %" for c in COLUMNS]
                self.row(Row(f"- {kind}", *one))

    def silence(self, name: str, title: str, items: Iterable[Item], limit: str = "") -> None:
        """Clips of which none should give text: how many do, and what raises a command."""
        taken = list(islice(items, self._limit))
        found: dict[str, Any] = {}
        for column, mode in COLUMNS.items():
            heard = [pipeline.hear(self._models, item.samples, mode) for item in taken]
            texts = [one.text for one in heard]
            acted_on = [text for one in heard for text in commands.raised(one.finals)]
            found[column] = {
                "clips": len(taken),
                "seconds": round(sum(len(item.samples) for item in taken) / RATE),
                "with text": sum(bool(text) for text in texts),
                "commands": acted_on,
                "texts": {i.name: t for i, t in zip(taken, texts, strict=True) if t},
            }
        self.results[name] = found
        shown = [
            f"text in {found[c]['with text']}, {len(found[c]['commands'])} commands"
            for c in COLUMNS
        ]
        seconds = found["offline"]["seconds"]
        self.row(Row(f"{title} ({len(taken)} clips, {seconds} s)", *shown, limit))

    def change(self, items: Iterable[Item]) -> None:
        """How often the final of a segment is not its last partial, in two passes."""
        count = changed = 0
        for item in islice(items, self._limit):
            heard = pipeline.hear(self._models, item.samples, RecognitionMode.TWO_PASS)
            for partial, final in zip(heard.partials, heard.finals, strict=False):
                count += 1
                changed += partial != final
        self.results["final is not the last partial"] = [changed, count]
        self.row(Row("final differs from the last partial", f"{changed} of {count}", ""))

    def cost(self, recordings: list[Int16]) -> None:
        """Processor time of detector and both passes to the length of the audio."""
        seconds = sum(map(len, recordings)) / RATE
        heard = [pipeline.hear(self._models, r, RecognitionMode.TWO_PASS) for r in recordings]
        factor = sum(h.cpu_s for h in heard) / max(1e-9, seconds)
        self.results["real-time factor"] = round(factor, 5)
        self.row(Row("real-time factor, detector and both passes", f"{factor:.4f}", "", "0.05"))

    def detector(self, published: Path, recordings: dict[str, Int16]) -> None:
        """Frames on which the detector agrees with the published one."""
        other = pipeline.published_vad(published)
        same = frames = lost = there = 0
        each: dict[str, float] = {}
        for name, samples in recordings.items():
            wanted = pipeline.segments(other, samples)
            got = pipeline.segments(self._models.vad, samples)
            a, b, missed = pipeline.agreement(got, wanted, len(samples))
            same, frames, lost, there = same + a, frames + b, lost + missed, there + len(wanted)
            each[name] = round(100 * a / max(1, b), 1)
        share = 100 * same / max(1, frames)
        self.results["detector"] = {"agreement": share, "lost": lost, "each": each}
        text = f"{share:.1f} % of the frames, {lost} of {there} segments lost"
        self.row(Row("detector against the published one, real speech", text, "", "96 %, none"))


def score(table: Table, args: argparse.Namespace) -> None:
    """Every set that is there."""
    data: Path | None = args.data if args.data.is_dir() else None
    clips = sets.synthetic(args.work)
    if not clips:
        print("no espeak-ng and flite: the synthetic voices are left out", file=sys.stderr)
    pool = augment.NoisePool(data, held_out=True)
    titles = {"zh": "Mandarin, kept-out voices", "en": "English, kept-out voices"}
    limits = {"zh": "commands 3 %, all 5 %", "en": "10 %"}
    for name, title in titles.items():
        if name in clips:
            table.words(name, title, sets.spoken(clips[name]), limits[name])
            noisy = sets.with_noise(clips[name], pool)
            table.words(f"{name}-noisy", f"{title}, noise at 10 dB", noisy, "twice that")
            pairs = sets.in_a_row(clips[name])
            table.words(f"{name}-pairs", f"{title}, two commands 1.25 s apart", pairs)
    if "slt" in clips:
        table.words("slt", "English, flite slt", sets.spoken(clips["slt"]), "reported")
    if clips:
        table.change(sets.spoken(clips["zh"]))
    if data is None:
        print(f"{args.data} is not there: human speech and noise are left out", file=sys.stderr)
        return
    table.words("fsdd", "human digits, FSDD lucas", sets.digits(data), "6 %")
    table.words("fsdd-strings", "the same in strings", sets.digit_strings(data), "6 %")
    table.words("dspspeech", "human words, DSPSpeech 26 to 28", sets.words(data), "6 %")
    noises = list(sets.noises(data))
    for kind, indices in sets.by_kind(noises).items():
        chosen = [noises[index] for index in indices]
        table.silence(f"noise, {kind}", f"ESC-10 sounds, {kind}", chosen, "1 command an hour")
    table.silence("open", "AISHELL sentences", sets.open_speech(data), "2 with a command")
    speech = sets.real_speech(data)
    if args.published.is_dir():
        table.detector(args.published, speech)
    table.cost(list(speech.values()))


def main() -> None:
    """Parse the arguments, score, print."""
    parser = argparse.ArgumentParser(prog="scripts/evaluate", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, default=Path("../shared/audio"))
    parser.add_argument(
        "--published", type=Path, default=Path("../shared/models/fsmn-vad"), help="FSMN-VAD"
    )
    parser.add_argument("--work", type=Path, default=Path("var/evaluation"))
    parser.add_argument("--limit", type=int, default=10**9, help="recordings a set")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    table = Table(pipeline.load(args.models), args.limit)
    score(table, args)
    if args.json is not None:
        text = json.dumps(table.results, ensure_ascii=False, indent=1)
        args.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
