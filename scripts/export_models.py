#!/usr/bin/env python3
"""Export a FunASR model for the agent: graphs, quantised forms, manifest, golden audio, report.

NAME is one of the published architectures, built from FunASR's own classes with seeded random
weights (which serve for parity and speed, not for recognition); DIR is a local FunASR checkpoint
(model.pt and config.yaml). Both go through FunASR's own exporter. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = CHECKOUT.parent / "shared"
sys.path[:0] = [str(CHECKOUT / "scripts"), str(CHECKOUT)]

from export.architectures import ARCHITECTURES  # noqa: E402
from export.side_files import ExportError  # noqa: E402
from export.variants import VARIANTS  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    from export.steps import export

    try:
        export(args)
    except ExportError as error:
        print(f"export_models: {error}", file=sys.stderr)
        return 1
    return 0


def _variants(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in VARIANTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(VARIANTS)}")
    if "int8-s8" in names and "int8" not in names:
        raise argparse.ArgumentTypeError("int8-s8 is made of int8; name both")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="export_models.py", description=__doc__)
    parser.add_argument("model", metavar="NAME|DIR", help=f"{', '.join(ARCHITECTURES)}, or DIR")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--id", help="model id (default: NAME, or made of OUT's name)")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--small", action="store_true", help="two blocks of 64, 300 tokens")
    parser.add_argument(
        "--audio",
        type=Path,
        nargs="+",
        metavar="FILE",
        default=[SHARED / "audio"],
        help="speech at 16 kHz, or folders of it (default: ../shared/audio)",
    )
    parser.add_argument(
        "--variants",
        type=_variants,
        default=["int8", "fp32"],
        metavar="NAME,...",
        help=f"of {', '.join(VARIANTS)} (default: int8,fp32)",
    )
    parser.add_argument(
        "--configs",
        type=Path,
        default=SHARED / "configs",
        help="folder with the published config.yaml, tokens.json and am.mvn of NAME",
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="keep the made checkpoint (model.pt) in this folder"
    )
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
