"""What a large model costs the store: install, verify and load of a synthetic int8 model.

    .venv/bin/python scripts/bench_store.py [--megabytes 240] [--runs 3]

Prints time and peak memory of each step, each in a process of its own, and how often the load
reads the model's file.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent.store.bundle import BundleSource, write_bundle  # noqa: E402
from tests.model_loading.graphs import ASR_DIM, large_paraformer  # noqa: E402
from tests.model_loading.tiny_models import asr_files, tone_wav, write_model  # noqa: E402

STEP = """
import json, resource, sys, time
sys.path.insert(0, {root!r})
import psutil
from pathlib import Path
from agent.engine.base import EngineSettings
from agent.store.store import ModelStore, StoreSettings
store = ModelStore(StoreSettings(
    shipped=Path({root!r}) / "models", state=Path({state!r}),
    lists={{"asr_offline": ["large"]}}, engine={{"asr_offline": EngineSettings()}}))
started = time.perf_counter()
{what}
took = time.perf_counter() - started
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's, too
own = int(status.partition("VmHWM:")[2].split()[0]) / 1024
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
rss = psutil.Process().memory_info().rss / 2**20
print(json.dumps({{"s": took, "peak_mb": own, "trial_peak_mb": children, "rss_mb": rss}}))
"""
STEPS = {
    "install, proof included": 'store.install(open({bundle!r}, "rb"))',
    "verify, all levels": 'assert all(c.serves for c in store.verify("large"))',
    "load as at a start": 'keep = store.load({{"asr_offline": ["large"]}}).roles["asr_offline"]',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=240)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = large_paraformer(args.megabytes, np.random.default_rng(1))
        files = {**asr_files(model_onnx=graph), "golden.wav": tone_wav()}
        model = write_model(folder / "source", "large", files, requires={"memory_mb": 700})
        size = len(graph) / 2**20
        del graph, files
        bundle = folder / "large.tar"
        with open(bundle, "wb") as file:
            write_bundle([BundleSource("large", model)], file)
        print(
            f"model of {size:.0f} MB, features of {ASR_DIM}; medians of {args.runs} runs (min-max)"
        )
        for step, code in STEPS.items():
            told = [run(step, code, folder, bundle) for _ in range(args.runs)]
            seconds = [entry["s"] for entry in told]
            print(
                f"{step:24} {statistics.median(seconds):6.2f} s ({min(seconds):.2f}-"
                f"{max(seconds):.2f}), peak {middle(told, 'peak_mb'):.0f} MB in the agent, "
                f"{middle(told, 'trial_peak_mb'):.0f} MB in the trial, "
                f"{middle(told, 'rss_mb'):.0f} MB resident afterwards"
            )
        print(f"the load reads model.onnx {reads(folder, bundle, size):.2f} times")


def middle(told: list[dict[str, float]], key: str) -> float:
    return statistics.median(entry[key] for entry in told)


def program(code: str, folder: Path, bundle: Path) -> list[str]:
    state = str(folder / "state")
    what = code.format(bundle=str(bundle))
    return [sys.executable, "-c", STEP.format(root=str(ROOT), state=state, what=what)]


def run(step: str, code: str, folder: Path, bundle: Path) -> dict[str, float]:
    if step.startswith("install"):
        shutil.rmtree(folder / "state", ignore_errors=True)
    done = subprocess.run(program(code, folder, bundle), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def reads(folder: Path, bundle: Path, size_mb: float) -> float:
    """Bytes read from the graph's file by the last step, by its size; NaN without strace."""
    if shutil.which("strace") is None:
        return float("nan")
    trace = folder / "trace"
    strace = ["strace", "-f", "-y", "-e", "trace=read,pread64,mmap", "-o", str(trace)]
    last = list(STEPS.values())[-1]
    subprocess.run([*strace, *program(last, folder, bundle)], check=True, capture_output=True)
    total = 0
    for line in trace.read_text(errors="replace").splitlines():
        found = re.search(r"(?:p?read(?:64)?|mmap)\(.*model\.onnx>.*= (\d+)$", line)
        total += int(found[1]) if found else 0
    return total / 2**20 / size_mb


if __name__ == "__main__":
    main()
