"""Write the kept-out synthetic sets as wav files with transcripts.tsv, to score a program on."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from . import corpus
from .clips import RATE, ClipSet, to_int16

LEAD, TRAIL = 0.4, 0.6


def export(source: Path, target: Path) -> None:
    """Copy the sets zh, en and slt of the corpus folder `source` to folders of wav files."""
    for name in corpus.HELDOUT:
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["file\tlang\ttext\tkind\tvoice"]
        for index, (clip, audio) in enumerate(ClipSet(source / name)):
            file = f"{name}-{index:03}.wav"
            padded = np.pad(audio, (int(LEAD * RATE), int(TRAIL * RATE)))
            soundfile.write(str(folder / file), to_int16(padded), RATE, subtype="PCM_16")
            rows.append(f"{file}\t{clip.lang}\t{clip.text}\t{clip.kind}\t{clip.voice}")
        (folder / "transcripts.tsv").write_text("\n".join(rows) + "\n", "utf-8")
        print(f"heldout: {len(rows) - 1} files in {folder}")


def main() -> None:
    """Synthesise the kept-out sets where they are missing, then write them out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="folder to write zh/, en/ and slt/ into")
    parser.add_argument("--work", type=Path, default=Path("var/train"), help="working folder")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    corpus.build(args.work / "corpus", args.seed, size=0)
    export(args.work / "corpus", args.target)


if __name__ == "__main__":
    main()
