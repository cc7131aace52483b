"""The NVIDIA GPU: there, driven, and really used by the runtime."""

from __future__ import annotations

import json
import re
from typing import Literal

from agent.doctor.box import Box
from agent.doctor.packages import how_it_ended, last_line
from agent.doctor.report import Check, failure, ok, warning
from agent.doctor.running import Once
from agent.doctor.runtime import RuntimeFacts

NAME = "gpu"
CUDA = "CUDAExecutionProvider"
PROBE_LIMIT_S = 180.0
"""The first use of CUDA may translate kernels for the GPU at hand."""

_JETSON = ("dev/nvhost-gpu", "dev/nvmap", "etc/nv_tegra_release")
_DISCRETE = ("proc/driver/nvidia/version", "dev/nvidia0")
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_IDLE = (
    "funasr-agent gpu install --index-url URL (or --wheel FILE) installs the runtime that uses it"
)
_ANSWER = "answer "
_PROBE = f"""
import json
from agent.engine.placement import probe_provider
found = probe_provider("cuda")
fields = {{name: getattr(found, name, None) for name in ("works", "reason")}}
print("{_ANSWER}" + json.dumps(fields, default=str))
"""

Wanted = Literal["auto", "cpu", "cuda"]


def check_gpu(box: Box, runtime: Once[RuntimeFacts], wanted: Wanted) -> list[Check]:
    """One line. `wanted` is `inference.provider`."""
    device = find_gpu(box)
    if not device:
        return [_without(box, wanted)]
    if wanted == "cpu":
        return [ok(NAME, f"{device}; left idle because inference.provider is cpu")]
    facts = runtime.get()
    if facts.problem:
        seen = f"{device}; not tried, because ONNX Runtime can't be imported"
        return [warning(NAME, seen, "mend the line onnxruntime first")]
    if CUDA not in facts.providers:
        build = f"onnxruntime {facts.version} is a build for the CPU"
        if wanted == "cuda":
            seen = f"{device}; inference.provider is cuda, but {build}"
            return [failure(NAME, seen, _IDLE)]
        return [warning(NAME, f"{device}; a GPU is idle: {build}", _IDLE)]
    problem = _try_provider(box)
    if not problem:
        return [ok(NAME, f"{device}; ran a graph on CUDA")]
    seen = f"{device}; CUDA is listed but does not run: {problem}"
    advice = "install the runtime that fits the driver: funasr-agent gpu install; " + (
        "until then models run on the CPU"
        if wanted == "auto"
        else "or set inference.provider: auto"
    )
    return [failure(NAME, seen, advice) if wanted == "cuda" else warning(NAME, seen, advice)]


def find_gpu(box: Box) -> str:
    """The NVIDIA GPU and its driver in words; empty without one."""
    if any(box.exists(path) for path in _JETSON):
        board = box.read("proc/device-tree/model") or "Jetson"
        release = re.search(r"R(\d+).*?REVISION: ([\d.]+)", box.read("etc/nv_tegra_release"))
        return f"{board}, L4T {release[1]}.{release[2]}" if release else board
    if not any(box.exists(path) for path in _DISCRETE):
        return ""
    models = []
    for name in box.names("proc/driver/nvidia/gpus/*/information"):
        model = re.search(r"^Model:\s*(.+)$", box.read(name), re.MULTILINE)
        models += [model[1].strip()] if model else []
    version = re.search(r"Kernel Module\b.*?\s(\d+\.\d[\d.]*)", box.read(_DISCRETE[0]))
    driver = f"driver {version[1]}" if version else "driver of unknown version"
    return f"{' and '.join(dict.fromkeys(models)) or 'NVIDIA GPU'}, {driver}"


def _without(box: Box, wanted: Wanted) -> Check:
    card = any(
        box.read(name) == _NVIDIA_VENDOR
        and box.read(name.removesuffix("vendor") + "class").startswith(_DISPLAY_CLASS)
        for name in box.names("sys/bus/pci/devices/*/vendor")
    )
    seen = "an NVIDIA card is in the box, but no driver is loaded" if card else "no NVIDIA GPU"
    if wanted == "cuda":
        advice = "set inference.provider: auto" + (", or install NVIDIA's driver" if card else "")
        return failure(NAME, f"{seen}, and inference.provider is cuda", advice)
    if card:
        return warning(NAME, seen, "install NVIDIA's driver if models are to run on the card")
    return ok(NAME, f"{seen}; models run on the CPU")


def _try_provider(box: Box) -> str:
    """Why a small graph does not run on CUDA, tried in a child process; empty: it does."""
    outcome = box.python(_PROBE, timeout_s=PROBE_LIMIT_S)
    for line in outcome.stdout.splitlines():
        if line.startswith(_ANSWER):
            found = json.loads(line.removeprefix(_ANSWER))
            return "" if found["works"] else str(found["reason"] or "it gives no reason")
    said = last_line(outcome.stderr)
    ended = how_it_ended(outcome.code, outcome.timed_out)
    return f"the trial {ended}" + (f": {said}" if said else "")
