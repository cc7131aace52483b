"""Options of ONNX Runtime's CUDA provider: what each is set to, and why.

The names are those of the runtime's CUDAExecutionProvider. TensorRT's provider is not used: it
builds an engine for every new length of audio, which takes minutes, and its engines fit one GPU.
"""

from __future__ import annotations

import re

from agent.engine.base import GpuSettings

TF32_SINCE = (1, 18)
"""Older runtimes refuse an option that they do not know."""


def cuda_options(settings: GpuSettings, version: str) -> dict[str, str]:
    """Options for a session on CUDA; `version` is the runtime's (`1.23.0`)."""
    options = {
        "device_id": str(settings.device),
        # The runtime's own choice, EXHAUSTIVE, times every algorithm at every new length of audio;
        # DEFAULT is cuDNN's fallback in runtimes with cuDNN 9, which is very slow.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The other choice doubles at each growth: half of the memory would lie idle.
        "arena_extend_strategy": "kSameAsRequested",
        # Copies on a stream of their own race with the kernels in some models.
        "do_copy_in_default_stream": "1",
    }
    if settings.arena_mb:
        options["gpu_mem_limit"] = str(settings.arena_mb << 20)
    if _release(version) >= TF32_SINCE:
        # fp32 serves where fp16 does not: with the 10 bits of TF32, which are on where nothing is
        # said, it would be no more exact than that.
        options["use_tf32"] = "0"
    return options


def _release(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
