"""Latency and node placement of full-size graphs on an NVIDIA GPU, in fp32, fp16 and int8.

Name model folders (scripts/export_models.py makes them), or architectures after --make, which are
exported first with weights from a seed, or single graph files after --graph. Each form is measured
in a process of its own; what one of them does to the GPU's driver harms no other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent.bench.report import board, cpu, versions
from agent.doctor.box import Box
from agent.doctor.gpu import find_gpu
from agent.errors import AgentError
from agent.ops.jetson import gpu_clock, power_mode
from agent.runtimes.proof import prove_providers
from agent.store.box_memory import read_memory
from agent.store.manifest import Manifest, read_manifest
from scripts.gpu.table import table

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
FORMS = ("fp32", "fp16", "int8")
_NAMES = ("paraformer-zh", "paraformer-zh-streaming", "sensevoice-small")
"""What `--make all` makes: one of each kind of recogniser."""
_LIMIT_S = 1800.0
"""For one form: loading twice, translating kernels for the GPU, measuring."""
_EXPORT_ENVIRONMENT = 'cd "$1"; . scripts/lib.sh; make_environment .venv-export "[export]"'


class Refused(Exception):
    """What is asked can't be done here; the text says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        if not (args.models or args.make or args.graph):
            raise Refused("name a model folder, --make NAME... or --graph FILE...; --help tells")
        gpu = _require_gpu() if args.provider == "cuda" else ""
        requests = list(_requests(args, [*args.models, *_made(args)]))
        results = []
        for request in requests:
            print(f"{request['name']} on {args.provider} ...", file=sys.stderr, flush=True)
            results.append({**request, **_ask(request)})
    except (Refused, AgentError, OSError) as error:
        print(f"bench-gpu: {error}", file=sys.stderr)
        return 1
    report = _report(args, gpu, results)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("\n".join(table(report)))
    return 1 if all("problem" in result for result in results) else 0


def _require_gpu() -> str:
    """The GPU in words. Raises Refused without one, and where no graph runs on it."""
    gpu = find_gpu(Box())
    if not gpu:
        raise Refused(
            "there is no NVIDIA GPU (no driver, and no Jetson's device nodes); --provider cpu "
            "measures the CPU"
        )
    proof = prove_providers(None, ["cuda"])
    if proof.reason:
        raise Refused(
            f"{gpu} is here, but no graph runs on it: {proof.reason}; put its runtime in place "
            "with scripts/install-gpu --wheel FILE (docs/gpu.md)"
        )
    return gpu


def _made(args: argparse.Namespace) -> Iterator[Path]:
    """Folders of the architectures after --make, exported unless they are there."""
    names = _NAMES if args.make == ["all"] else args.make
    for name in names:
        folder = args.work / f"{name}-seed{args.seed}"
        if not (folder / "manifest.yaml").is_file():
            _export(args, name, folder)
        yield folder


def _export(args: argparse.Namespace, name: str, folder: Path) -> None:
    configs = args.configs or SHARED / "configs"
    if not configs.is_dir():
        raise Refused(
            f"{configs} is missing: --configs must name the folder with config.yaml, tokens.json "
            "and am.mvn of the published models (scripts/export_models.py --help)"
        )
    python = args.export_python or ROOT / ".venv-export/bin/python"
    audio = SHARED / "audio"
    command = [python, ROOT / "scripts/export_models.py", name, "-o", folder, "--configs", configs]
    command += ["--audio", audio if audio.is_dir() else ROOT / "tests/data/clips"]
    command += ["--seed", args.seed, "--variants", "int8,fp32,fp16"]
    try:
        if args.export_python is None:
            subprocess.run(["bash", "-euc", _EXPORT_ENVIRONMENT, "bash", str(ROOT)], check=True)
        subprocess.run(list(map(str, command)), stdout=sys.stderr, check=True)
    except subprocess.CalledProcessError as error:
        raise Refused(f"{name} could not be exported (exit code {error.returncode})") from None


def _requests(args: argparse.Namespace, folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    shared = {
        "provider": args.provider,
        "threads": args.threads,
        "seconds": args.seconds,
        "limit_s": args.limit,
    }
    for folder in folders:
        manifest = read_manifest(folder)
        for form, variant in _variants(manifest, args.forms):
            name = f"{manifest.id} {form}"
            place = {"folder": str(folder.resolve()), "variant": variant}
            yield {"name": name, "form": form, **place, **shared}
    for path in args.graph:
        yield {"name": path.name, "form": "file", "graph": str(path.resolve()), **shared}


def _variants(manifest: Manifest, forms: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Form and variant, of each form the first: variants for other providers have its graphs."""
    names = [variant.name for variant in manifest.variants]
    for form in forms:
        fitting = (name for name in names if name == form or name.startswith(f"{form}-"))
        if (name := next(fitting, None)) is not None:
            yield form, name


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's answer; what kills it becomes a problem."""
    command = [sys.executable, "-m", "scripts.gpu.worker"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    data = json.dumps(request).encode()
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=_LIMIT_S, env=environ, check=False
        )
        return dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return {"problem": f"did not come to an end within {_LIMIT_S:.0f} s"}
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        return {"problem": f"the process ended with {done.returncode}: {said[0]}"}


def _report(
    args: argparse.Namespace, gpu: str, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    box, root = Box(), Path("/")
    memory, clock, mode = read_memory(root), gpu_clock(root), power_mode(root)
    return {
        "schema": 1,
        "time": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        "gpu": gpu or None,
        "board": board(box),
        "cpu": cpu(box),
        "memory_mb": memory.total_mb if memory else None,
        "memory_shared_with_gpu": memory.shared if memory else None,
        "power_mode": str(mode) if mode else None,
        "gpu_limit_mhz": clock.limit_mhz if clock else None,
        "versions": versions(),
        "seconds": args.seconds,
        "seed": args.seed if args.make else None,
        "results": list(results),
    }


def _forms(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in FORMS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FORMS)}")
    return names


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("must be above 0 and at most 600")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", type=Path, metavar="FOLDER", help="a model's folder")
    parser.add_argument(
        "--make", nargs="+", default=[], metavar="NAME", help=f"all ({', '.join(_NAMES)}), or names"
    )
    parser.add_argument("--graph", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--forms", type=_forms, default=list(FORMS), metavar="NAME,...", help="fp32,fp16,int8"
    )
    parser.add_argument("--seconds", type=_positive, default=10.0, help="of audio (default: 10)")
    parser.add_argument("--limit", type=_positive, default=10.0, help="seconds of timing a graph")
    parser.add_argument("--threads", type=int, default=1, help="for what runs on the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the weights of --make")
    parser.add_argument("--configs", type=Path, help="published side files, for --make")
    parser.add_argument(
        "--export-python",
        type=Path,
        metavar="FILE",
        help="an interpreter with the extra `export` (default: one is made in .venv-export)",
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench-gpu", help="for --make")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
